//! Files that hold more than they seem to, or have no end.

use std::io::Write;
use std::path::{Path, PathBuf};

use adpo_data::{ReadLimits, read_preferences, read_text};
use flate2::Compression;
use flate2::write::GzEncoder;

const ROW: &str = r#"{"prompt": "Paint?", "chosen": "An hour.", "rejected": "Who cares."}"#;

fn gzipped(folder: &Path, name: &str, part: &[u8], times: usize) -> PathBuf {
    let path = folder.join(name);
    let mut encoder = GzEncoder::new(std::fs::File::create(&path).expect("created"), Compression::best());
    (0..times).for_each(|_| encoder.write_all(part).expect("written"));
    encoder.finish().expect("finished");
    path
}

fn problem(path: &Path) -> String {
    read_preferences(path).expect_err("is refused").to_string()
}

/// One test: limits hold for the whole program.
#[test]
fn what_unpacks_to_more_than_text_does_is_refused_until_the_limit_is_raised() {
    let folder = tempfile::tempdir().expect("a folder");
    let began = std::time::Instant::now();
    let mebibyte = vec![b'\n'; 1 << 20];
    for name in ["blank.jsonl.gz", "blank.csv.gz"] {
        let told = problem(&gzipped(folder.path(), name, &mebibyte, 300));
        assert!(told.contains(name) && told.contains("--max-unpacked-mib"), "{told}");
    }
    let spaces = gzipped(folder.path(), "array.jsonl.gz", &[b"[\n".as_slice(), &vec![b' '; 1 << 20]].concat(), 1);
    assert!(problem(&spaces).contains("is cut off") || problem(&spaces).contains("no object"));
    let line = gzipped(folder.path(), "line.jsonl.gz", &vec![b'x'; 1 << 20], 9);
    assert!(problem(&line).contains("--max-line-mib"), "{}", problem(&line));
    assert!(began.elapsed().as_secs() < 20, "{:?}", began.elapsed());

    // Rows that are alike pack to a thousandth, and are rows all the same.
    let rows = gzipped(folder.path(), "rows.jsonl.gz", format!("{ROW}\n").as_bytes(), 600_000);
    assert!(problem(&rows).contains("--max-unpacked-mib"));
    ReadLimits { unpacked_bytes: Some(1 << 30), line_bytes: 100 << 20 }.apply();
    assert_eq!(read_preferences(&rows).expect("is read").1.read, 600_000);
    assert!(!problem(&line).contains("--max-line-mib"));
    ReadLimits::default().apply();
}

#[cfg(unix)]
#[test]
fn a_pipe_that_nobody_writes_to_and_a_device_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let pipe = folder.path().join("pipe.jsonl");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().expect("mkfifo is there").success());
    for path in [pipe.as_path(), Path::new("/dev/zero"), Path::new("/dev/stdin")] {
        if path.ends_with("stdin") && std::fs::metadata(path).is_ok_and(|found| found.is_file()) {
            continue;
        }
        let told = problem(path);
        assert!(told.contains("pipe or a device"), "{told}");
        assert!(read_text(path).expect_err("has no end").to_string().contains("pipe or a device"));
    }
}
