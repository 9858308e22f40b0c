//! The target for Parquet files, which are read by a feature of their own.

use adpo_data::RowFile;

use crate::target::{Target, file, read, with_folder, write};

/// The only one.
pub const TARGET: Target = Target { name: "parquet", run: parquet, seeds };

fn parquet(bytes: &[u8]) -> bool {
    with_folder(|folder| {
        let path = folder.join("rows.parquet");
        write(&path, bytes);
        let rows = RowFile::new(&path);
        let preferences = read(rows.preferences(), "rows.parquet").is_some();
        read(rows.dialogues(), "rows.parquet").is_some() || preferences
    })
}

fn seeds() -> Vec<Vec<u8>> {
    let names = [
        "triples-none",
        "triples-snappy",
        "triples-gzip",
        "triples-zstd",
        "triples-lz4",
        "triples-pages-v2",
        "triples-checksums",
        "messages",
    ];
    names.map(|name| file(&format!("crates/adpo-data/tests/parquet/{name}.parquet"))).into()
}
