//! LDK's own migration, as published: `benches/ldk`, a package of its own that the library does not
//! depend on.

use crate::rounds::numbers;
use crate::store;
use crate::work::Work;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Each of its pairs takes a transaction with its syncs, so more pairs show nothing more.
const PAIRS_MAX: u64 = 5_000;

/// How many pairs it moves of a work.
pub fn pairs(work: &Work) -> u64 {
    work.pairs.min(PAIRS_MAX)
}

fn manifest() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/ldk/Cargo.toml")
}

fn target() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/ldk")
}

/// Builds it; says so where that is not possible.
pub fn build() -> bool {
    let built = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["build", "--release", "--locked", "--manifest-path"])
        .arg(manifest())
        .arg("--target-dir")
        .arg(target())
        .status();
    let is_built = built.is_ok_and(|status| status.success());
    if !is_built {
        eprintln!("benches/ldk does not build, so LDK is left out");
    }
    is_built
}

/// Makes its file-system store, and moves it: its seconds and its peak memory in KiB.
pub fn run(folder: &Path, work: &Work) -> (f64, u64) {
    fs::create_dir(folder).expect("a folder");
    let part = |part: &str| {
        let output = Command::new(target().join("release/ldk"))
            .arg(part)
            .arg(folder)
            .args([pairs(work).to_string(), work.value_bytes.to_string()])
            .output()
            .expect("LDK runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output
    };
    part("fill");
    store::sync();
    numbers(&part("migrate"))
}
