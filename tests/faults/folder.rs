//! What lies in a folder, and whether it is what its `_manifest.json` says.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

const MANIFEST: &str = "_manifest.json";

/// Every file below a folder, hidden ones too, by its path from there.
pub(crate) fn files(folder: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(&next).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push(entry.path());
            } else {
                found.insert(entry.path().strip_prefix(folder).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    found
}

/// The names in a folder, hidden ones too.
pub(crate) fn names(folder: &Path) -> BTreeSet<String> {
    std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// One output, as its manifest lists it: logical names with contents.
pub(crate) struct Whole {
    pub(crate) run: String,
    pub(crate) files: Vec<(String, String, Vec<u8>)>,
}

impl Whole {
    pub(crate) fn content(&self, name: &str) -> Option<&[u8]> {
        self.files.iter().find(|(of, ..)| of == name).map(|(.., content)| content.as_slice())
    }
}

/// What a careful reader sees in an output folder: the manifest, then its files, anew where the manifest was replaced
/// meanwhile. `Err` where the files are not those of the manifest and it was *not* replaced.
pub(crate) fn whole(folder: &Path) -> Result<Whole, String> {
    let manifest = || std::fs::read(folder.join(MANIFEST)).map_err(|error| format!("{MANIFEST}: {error}"));
    loop {
        let before = manifest()?;
        match listed(folder, &before) {
            Ok(whole) => return Ok(whole),
            Err(_) if manifest()? != before => {}
            Err(fault) => return Err(fault),
        }
    }
}

fn listed(folder: &Path, manifest: &[u8]) -> Result<Whole, String> {
    let manifest: Value = serde_json::from_slice(manifest).map_err(|error| format!("{MANIFEST}: {error}"))?;
    let text = |value: &Value, key: &str| {
        value[key].as_str().map(str::to_owned).ok_or_else(|| format!("{MANIFEST} without \"{key}\": {value}"))
    };
    let run = text(&manifest, "run")?;
    let mut files = Vec::new();
    for file in manifest["files"].as_array().ok_or_else(|| format!("{MANIFEST} without \"files\""))? {
        let (name, path, hash) = (text(file, "name")?, text(file, "path")?, text(file, "hash")?);
        let content = std::fs::read(folder.join(&path)).map_err(|error| format!("{path}, which is listed: {error}"))?;
        if file["size"].as_u64() != Some(content.len() as u64) {
            return Err(format!("{path} has {} bytes, and {} are listed", content.len(), file["size"]));
        }
        if !hash.ends_with(blake3::hash(&content).to_hex().as_str()) {
            return Err(format!("{path} has another hash than is listed"));
        }
        files.push((name, path, content));
    }
    Ok(Whole { run, files })
}

/// What is wrong with an output folder that no run is writing to: files that are not listed, or not as listed.
pub(crate) fn leftovers(folder: &Path) -> Result<(), String> {
    let mut listed: BTreeSet<String> = whole(folder)?.files.into_iter().map(|(_, path, _)| path).collect();
    listed.insert(MANIFEST.to_owned());
    let found = files(folder);
    let more: Vec<_> = found.difference(&listed).collect();
    if more.is_empty() { Ok(()) } else { Err(format!("{} files that are not listed: {more:?}", more.len())) }
}
