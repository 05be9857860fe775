//! Runs the binary.

use std::path::Path;
use std::process::{Command, Output};

/// The binary, with nothing of the caller's environment that would change what it does.
pub(crate) fn counterweight() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_counterweight"));
    for (key, _) in std::env::vars().filter(|(key, _)| key.starts_with("AWS_") || key.starts_with("COUNTERWEIGHT_")) {
        command.env_remove(key);
    }
    command
}

/// Standard output of a run that must succeed.
pub(crate) fn succeed(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{command:?}\n{}\n{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

/// Exit code and standard error of a run that must fail.
pub(crate) fn fail(command: &mut Command) -> (i32, String) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    assert!(!status.success(), "{command:?} succeeded\n{}", String::from_utf8_lossy(&stdout));
    (status.code().unwrap_or(-1), String::from_utf8_lossy(&stderr).into_owned())
}

/// A file of the repository.
pub(crate) fn repository(path: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Where the file lies that is called `name` from run to run, by the manifest of the output folder.
pub(crate) fn listed(folder: &Path, name: &str) -> std::path::PathBuf {
    let manifest = std::fs::read(folder.join("_manifest.json")).unwrap();
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    let file = manifest["files"].as_array().unwrap().iter().find(|file| file["name"] == name);
    folder.join(file.unwrap_or_else(|| panic!("no {name} in {manifest}"))["path"].as_str().unwrap())
}

/// Writes a log of 200 rows to `log.csv` in `folder`: `who`, `what`, the propensity `p`, `treated` and `outcome`.
pub(crate) fn write_log(folder: &Path) {
    let mut rows = "who,what,p,treated,outcome\n".to_owned();
    for row in 0..200 {
        rows += &format!("u{},i{},0.5,{},{}\n", row % 10, row % 7, row % 2, row % 3 % 2);
    }
    std::fs::write(folder.join("log.csv"), rows).unwrap();
}

/// SplitMix64, from 0 to 1.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }
}
