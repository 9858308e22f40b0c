// nvcuda::wmma. Each lane keeps the whole of a fragment and stores its share of it: kernels do not look into fragments, so none
// can tell. Every operation is a point at which other threads may go on.
#pragma once
#include "emulator.h"

namespace nvcuda {
namespace wmma {

struct matrix_a {};
struct matrix_b {};
struct accumulator {};
struct row_major {};
struct col_major {};
enum layout_t { mem_row_major, mem_col_major };

template <class Use, int m, int n, int k> struct shape;
template <int m, int n, int k> struct shape<matrix_a, m, n, k> {
  enum { rows = m, columns = k };
};
template <int m, int n, int k> struct shape<matrix_b, m, n, k> {
  enum { rows = k, columns = n };
};
template <int m, int n, int k> struct shape<accumulator, m, n, k> {
  enum { rows = m, columns = n };
};

template <class Use, int m, int n, int k, class T, class Layout = void> struct fragment {
  enum { rows = shape<Use, m, n, k>::rows, columns = shape<Use, m, n, k>::columns };
  T x[rows * columns];
};

// What CUDA asks of memory that fragments are loaded from and stored to.
template <class T> void check(const T* memory, unsigned pitch) {
  if (uintptr_t(memory) % 32) emulator::fail("a fragment does not begin at a multiple of 32 bytes");
  if (pitch * sizeof(T) % 16) emulator::fail("the rows of a fragment do not begin at multiples of 16 bytes");
}

template <class Use, int m, int n, int k, class T, class Layout>
void load_matrix_sync(fragment<Use, m, n, k, T, Layout>& to, const T* from, unsigned pitch) {
  emulator::step();
  check(from, pitch);
  for (unsigned row = 0; row < to.rows; row++)
    for (unsigned column = 0; column < to.columns; column++)
      to.x[row * to.columns + column] = from[std::is_same<Layout, row_major>::value ? row * pitch + column : column * pitch + row];
}

template <int m, int n, int k, class T>
void store_matrix_sync(T* to, const fragment<accumulator, m, n, k, T>& from, unsigned pitch, layout_t layout) {
  emulator::step();
  check(to, pitch);
  if (layout != mem_row_major) emulator::fail("only rows can be stored");
  // Every so many numbers: neighbours belong to different lanes, in rows as in columns.
  for (unsigned i = emulator::current % emulator::LANES; i < m * n; i += emulator::LANES) to[i / n * pitch + i % n] = from.x[i];
}

template <int m, int n, int k, class T> void fill_fragment(fragment<accumulator, m, n, k, T>& to, T value) {
  for (T& x : to.x) x = value;
}

template <int m, int n, int k, class T, class LayoutA, class LayoutB>
void mma_sync(fragment<accumulator, m, n, k, float>& d, const fragment<matrix_a, m, n, k, T, LayoutA>& a,
              const fragment<matrix_b, m, n, k, T, LayoutB>& b, const fragment<accumulator, m, n, k, float>& c) {
  emulator::step();
  for (int i = 0; i < m; i++)
    for (int j = 0; j < n; j++) {
      float sum = c.x[i * n + j];
      for (int l = 0; l < k; l++) sum += float(a.x[i * k + l]) * float(b.x[l * n + j]);
      d.x[i * n + j] = sum;
    }
}

}  // namespace wmma
}  // namespace nvcuda
