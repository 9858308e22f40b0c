// Attention's kernels beside their definition in f64: `attention KERNEL SEED BARRIER`, where BARRIER is left out, or -1.
// emulate.py puts the kernels before this, each in a namespace, and gives DIM.

#include <string>
#include <sys/mman.h>
#include <unistd.h>

typedef __nv_bfloat16 Number;
typedef std::vector<double> Numbers;

const size_t ROWS = 3, WIDTH = 100, HEADS = 2, KV_HEADS = 1, GROUP = HEADS / KV_HEADS;
// Queries or keys of a block.
const size_t TILE = 64;
// Of the largest number: a rounding of the result, and of what it is summed from.
const double TOLERANCE = 1.0 / 128;

struct Part {
  int segment, branch;
  size_t cells;
};
// A row with a prompt and two completions, and another sequence from where a tile begins; one with a sequence of two cells, in two tiles, so
// that one thread alone sees anything of one in the other, and padding; one with one sequence.
const std::vector<Part> PARTS = {{1, 0, 24}, {1, 1, 30}, {1, 2, 10}, {2, 0, 36}, {3, 0, 63}, {4, 0, 2}, {5, 0, 25}, {0, 0, 10}, {6, 0, 100}};

// Memory that ends where nobody may read or write.
struct Buffer {
  char* start;
  Buffer(size_t bytes) {
    const size_t page = sysconf(_SC_PAGESIZE), whole = (bytes + page - 1) / page * page;
    char* memory = (char*)mmap(nullptr, whole + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    mprotect(memory + whole, page, PROT_NONE);
    memset(memory, emulator::POISON, whole);
    start = memory + whole - bytes;
  }
  // A kernel has vectors of its own.
  template <class T> operator T*() const { return (T*)start; }
};

template <class T> Buffer buffer(const Numbers& numbers) {
  Buffer buffer(numbers.size() * sizeof(T));
  for (size_t i = 0; i < numbers.size(); i++) ((T*)buffer.start)[i] = T(numbers[i]);
  return buffer;
}

static Numbers noise(size_t n, float largest = 1) {
  static std::mt19937 random(1);
  Numbers numbers(n);
  for (double& x : numbers) x = Number(largest * (float(random() / double(1ull << 31)) - 1));
  return numbers;
}

// Where a cell's head begins, and where the number of a query and head lies.
static size_t at(size_t row, size_t cell, size_t head, size_t heads) { return ((row * WIDTH + cell) * heads + head) * DIM; }
static size_t at(size_t row, size_t cell, size_t head) { return (row * HEADS + head) * WIDTH + cell; }

static double product(const Numbers& a, size_t i, const Numbers& b, size_t j) {
  double sum = 0;
  for (size_t x = 0; x < DIM; x++) sum += a[i + x] * b[j + x];
  return sum;
}

static void add(Numbers& to, size_t i, double factor, const Numbers& from, size_t j) {
  for (size_t x = 0; x < DIM; x++) to[i + x] += factor * from[j + x];
}

static bool right = true;

template <class T> void compare(const char* name, const Buffer& buffer, const Numbers& expected) {
  double largest = 0, off = 0;
  for (size_t i = 0; i < expected.size(); i++) {
    const double error = std::fabs(double(float(((T*)buffer.start)[i])) - expected[i]);
    largest = std::max(largest, std::fabs(expected[i]));
    if (!(error <= off)) off = error;
  }
  printf("%s off by %.1e ", name, off / largest);
  right &= off <= TOLERANCE * largest;
}

int main(int, char** arguments) {
  const std::string kernel = arguments[1];
  emulator::order.seed(atoi(arguments[2]));
  emulator::skipped = atoi(arguments[3]);

  std::vector<Part> cells;
  for (const Part& part : PARTS) cells.insert(cells.end(), part.cells, part);
  Numbers segments, branches;
  for (const Part& cell : cells) segments.push_back(cell.segment), branches.push_back(cell.branch);
  const auto sees = [&](size_t row, size_t query, size_t key) {
    const Part &q = cells[row * WIDTH + query], &k = cells[row * WIDTH + key];
    return key <= query && k.segment == q.segment && (k.branch == 0 || k.branch == q.branch);
  };

  const size_t size = ROWS * WIDTH * HEADS * DIM, kv_size = size / GROUP;
  const double scale = 1 / std::sqrt(double(DIM));
  // Products that, taken for scores, are beyond the range of exp.
  const Numbers q = noise(size, 4), k = noise(kv_size, 4), v = noise(kv_size), grad = noise(size);
  Numbers o(size), lse(ROWS * HEADS * WIDTH), along(lse), dq(size), dk(kv_size), dv(kv_size);
  for (size_t row = 0; row < ROWS; row++)
    for (size_t head = 0; head < HEADS; head++)
      for (size_t query = 0; query < WIDTH; query++) {
        const size_t here = at(row, query, head, HEADS), ends = at(row, query, head);
        const auto of = [&](size_t key) { return at(row, key, head / GROUP, KV_HEADS); };
        double sum = 0;
        for (size_t key = 0; key <= query; key++)
          if (sees(row, query, key)) sum += std::exp(product(q, here, k, of(key)) * scale);
        lse[ends] = std::log(sum);
        const auto weight = [&](size_t key) { return std::exp(product(q, here, k, of(key)) * scale - lse[ends]); };
        for (size_t key = 0; key <= query; key++)
          if (sees(row, query, key)) add(o, here, weight(key), v, of(key));
        along[ends] = product(o, here, grad, here);
        for (size_t key = 0; key <= query; key++)
          if (sees(row, query, key)) {
            const double slope = weight(key) * (product(grad, here, v, of(key)) - along[ends]) * scale;
            add(dq, here, slope, k, of(key));
            add(dk, of(key), slope, q, here);
            add(dv, of(key), weight(key), grad, here);
          }
      }

  const Buffer q_in = buffer<Number>(q), k_in = buffer<Number>(k), v_in = buffer<Number>(v), grad_in = buffer<Number>(grad);
  const Buffer segments_in = buffer<int32_t>(segments), branches_in = buffer<int32_t>(branches);
  const Buffer lse_in = buffer<float>(lse), along_in = buffer<float>(along);
  const Buffer out(size * sizeof(Number)), lse_out(lse.size() * sizeof(float));
  const Buffer dk_out(kv_size * sizeof(Number)), dv_out(kv_size * sizeof(Number));
  const dim3 block = {emulator::LANES, 4};
  const auto grid = [](size_t heads) { return dim3{unsigned((WIDTH + TILE - 1) / TILE), unsigned(heads), unsigned(ROWS)}; };
  const auto set = [&](auto& info) {
    info.scalars_u32[0] = WIDTH;
    info.scalars_u32[1] = GROUP;
    info.scalars_f32[0] = scale;
  };
  if (kernel == "forward") {
    forward::info_st info = {};
    set(info);
    emulator::launch(grid(HEADS), block, [&] { forward::KERNEL(q_in, k_in, v_in, segments_in, branches_in, out, lse_out, info); });
    compare<Number>("o", out, o);
    compare<float>("log Σ exp", lse_out, lse);
  } else if (kernel == "by_query") {
    by_query::info_st info = {};
    set(info);
    emulator::launch(grid(HEADS), block, [&] {
      by_query::KERNEL(q_in, k_in, v_in, grad_in, lse_in, along_in, segments_in, branches_in, out, info);
    });
    compare<Number>("dq", out, dq);
  } else {
    by_key::info_st info = {};
    set(info);
    emulator::launch(grid(KV_HEADS), block, [&] {
      by_key::KERNEL(q_in, k_in, v_in, grad_in, lse_in, along_in, segments_in, branches_in, dk_out, dv_out, info);
    });
    compare<Number>("dk", dk_out, dk);
    compare<Number>("dv", dv_out, dv);
  }
  printf("\n");
  return !right;
}
