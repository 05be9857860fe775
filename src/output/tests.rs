use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use super::store::PART_BYTES;
use super::*;
use crate::storage::parse_url;

/// Every file below a folder, hidden ones too, with its content.
fn tree(folder: &Path) -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let name = entry.file_name().into_string().unwrap();
        if entry.file_type().unwrap().is_dir() {
            files.extend(tree(&entry.path()).into_iter().map(|(below, text)| (format!("{name}/{below}"), text)));
        } else {
            files.insert(name, String::from_utf8_lossy(&fs::read(entry.path()).unwrap()).into_owned());
        }
    }
    files
}

fn url(path: &Path) -> Url {
    parse_url(path.to_str().unwrap()).unwrap()
}

fn folder_url(path: &Path) -> Url {
    parse_url(&format!("{}/", path.display())).unwrap()
}

/// Writes a folder of these files, and gives the run.
async fn write(storage: &Storage, to: &Url, others: Others, files: &[(&str, &str)]) -> Result<String> {
    let written = Outputs::write(async |outputs| {
        let folder = outputs.folder(storage, to, others).await?;
        for (name, text) in files {
            match name.strip_prefix('!') {
                Some(fixed) => folder.put_fixed(fixed, text.as_bytes()).await?,
                None => folder.put(name, text.as_bytes()).await?,
            }
        }
        Ok(folder.run())
    });
    written.await.map(|(run, _)| run)
}

/// What a reader that goes by the manifest finds: names and contents.
async fn read(storage: &Storage, folder: &Url) -> BTreeMap<String, String> {
    let (store, path) = storage.resolve(folder).unwrap();
    let bytes = storage.read(&child(folder, MANIFEST).unwrap()).await.unwrap();
    let manifest = Manifest::parse(&bytes, "the manifest").unwrap();
    let listed = list(&*store, &path).await.unwrap();
    let data = listed.iter().filter(|object| object.location.filename() != Some(MANIFEST)).count();
    assert!(data <= manifest.files.len() + 1, "a marker may be there, and no other file: {listed:?}");
    let mut files = BTreeMap::new();
    for file in manifest.files {
        let mut at = folder.clone();
        at.path_segments_mut().unwrap().pop_if_empty().extend(file.path.split('/'));
        let bytes = storage.read(&at).await.unwrap();
        assert_eq!((file.size, file.hash), (bytes.len() as u64, blake3::hash(&bytes).to_hex().to_string()));
        files.insert(file.name, String::from_utf8(bytes).unwrap());
    }
    files
}

fn texts(files: &[(&str, &str)]) -> BTreeMap<String, String> {
    files.iter().map(|(name, text)| (name.trim_start_matches('!').to_owned(), (*text).to_owned())).collect()
}

#[tokio::test]
async fn nothing_is_visible_before_all_is_staged_or_after_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let storage = Storage::new([]);
    let to = url(&folder.path().join("sub/x.bin"));
    let large = vec![7_u8; 2 * PART_BYTES + 3];

    for fails in [true, false] {
        let written = Outputs::write(async |outputs: Outputs| {
            outputs.put(&storage, &to, &large).await?;
            // One that is begun and not added.
            let mut other = outputs.create(&storage, &parse_url("memory:///other").unwrap()).await?;
            other.append(b"x").await?;
            let mut beside = outputs.create(&storage, &parse_url(&format!("{to}2")).unwrap()).await?;
            beside.append(b"x").await?;
            assert!(storage.read(&to).await.is_err());
            if fails { Err(Error::Interrupted) } else { Ok(5) }
        });
        match written.await {
            Ok(written) => {
                assert_eq!((fails, written), (false, (5, vec![to.clone()])));
                assert_eq!(storage.read(&to).await.unwrap(), large);
            }
            Err(error) => {
                assert!(fails && matches!(error, Error::Interrupted), "{error}");
                assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nothing staged is left");
            }
        }
    }
    assert_eq!(tree(folder.path()).keys().collect::<Vec<_>>(), ["sub/x.bin"], "nothing staged is left");
}

#[tokio::test]
async fn what_is_dropped_while_it_is_staged_is_withdrawn() {
    let folder = tempfile::tempdir().unwrap();
    let storage = Storage::new([]);
    let write = Outputs::write(async |outputs: Outputs| {
        outputs.put(&storage, &url(&folder.path().join("x.bin")), b"added").await?;
        let mut object = outputs.create(&storage, &url(&folder.path().join("y.bin"))).await?;
        object.append(&vec![0; PART_BYTES + 1]).await?;
        let other = outputs.folder(&storage, &folder_url(&folder.path().join("out")), Others::Kept).await?;
        other.put("a", b"a").await?;
        std::future::pending::<Result<()>>().await
    });
    let cancelled = tokio::time::timeout(Duration::from_millis(300), write).await;
    assert!(cancelled.is_err());
    for _ in 0..200 {
        if fs::read_dir(folder.path()).unwrap().count() == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{:?}", tree(folder.path()).into_keys().collect::<Vec<_>>());
}

#[tokio::test]
async fn an_empty_object_is_an_object() {
    let storage = Storage::new([]);
    let folder = tempfile::tempdir().unwrap();
    for to in [parse_url("memory:///empty").unwrap(), url(&folder.path().join("empty"))] {
        Outputs::write(async |outputs: Outputs| outputs.put(&storage, &to, b"").await).await.unwrap();
        assert!(storage.read(&to).await.unwrap().is_empty());
    }
}

/// Two runs that have other files, and one that has fewer, each in the place of the one before.
#[tokio::test]
async fn a_folder_is_that_of_the_last_run_and_of_no_other() {
    let disk = tempfile::tempdir().unwrap();
    let storage = Storage::new([]);
    for to in [parse_url("memory:///top/out/").unwrap(), folder_url(&disk.path().join("out"))] {
        for others in [Others::Refused, Others::Kept] {
            let mut runs = Vec::new();
            let contents: [&[(&str, &str)]; 4] = [
                &[("day=1/a.csv", "1"), ("b.csv", "2"), ("!whole.json", "3")],
                &[("day=1/a.csv", "4"), ("day=2/a.csv", "5"), ("!whole.json", "6")],
                &[],
                &[("b.csv", "7")],
            ];
            for files in contents {
                runs.push(write(&storage, &to, others, files).await.unwrap());
                assert_eq!(read(&storage, &to).await, texts(files), "{to}");
            }
            runs.sort();
            runs.dedup();
            assert_eq!(runs.len(), 4, "each run has its own name");
        }
    }
    let left: Vec<_> = tree(disk.path()).into_keys().collect();
    assert_eq!(left.len(), 2, "{left:?}");
    assert!(left[0] == "out/_manifest.json" && left[1].starts_with("out/b-2"), "{left:?}");
}

#[tokio::test]
async fn what_somebody_else_has_put_into_a_folder_stays_or_is_refused() {
    let disk = tempfile::tempdir().unwrap();
    let storage = Storage::new([]);
    for to in [parse_url("memory:///top/mixed/").unwrap(), folder_url(&disk.path().join("mixed"))] {
        write(&storage, &to, Others::Kept, &[("sub/a.csv", "1")]).await.unwrap();
        let notes = child(&to, "sub/notes.txt").unwrap();
        Outputs::write(async |outputs| outputs.put(&storage, &notes, b"mine").await).await.unwrap();
        let error = write(&storage, &to, Others::Refused, &[("a.csv", "2")]).await.unwrap_err();
        assert!(error.is_invalid_input() && error.to_string().contains("already holds sub/notes.txt"), "{error}");
        assert_eq!(read(&storage, &to).await, texts(&[("sub/a.csv", "1")]));

        for text in ["2", "3"] {
            write(&storage, &to, Others::Kept, &[("a.csv", text), ("!sub/b.json", text)]).await.unwrap();
            assert_eq!(read_listed(&storage, &to).await, texts(&[("a.csv", text), ("sub/b.json", text)]));
            assert_eq!(storage.read(&notes).await.unwrap(), b"mine");
        }
    }
    let left: Vec<_> = tree(disk.path()).into_keys().collect();
    assert_eq!(left.len(), 4, "{left:?}");
}

/// The same as [`read`], where there are files of others.
async fn read_listed(storage: &Storage, folder: &Url) -> BTreeMap<String, String> {
    let bytes = storage.read(&child(folder, MANIFEST).unwrap()).await.unwrap();
    let manifest = Manifest::parse(&bytes, "the manifest").unwrap();
    let mut files = BTreeMap::new();
    for file in manifest.files {
        let bytes = storage.read(&child(folder, &file.path).unwrap()).await.unwrap();
        files.insert(file.name, String::from_utf8(bytes).unwrap());
    }
    files
}

#[tokio::test]
async fn a_name_that_leads_out_of_the_folder_is_refused() {
    let disk = tempfile::tempdir().unwrap();
    let storage = Storage::new([]);
    fs::write(disk.path().join("victim"), "here").unwrap();
    for to in [parse_url("memory:///top/out/").unwrap(), folder_url(&disk.path().join("out"))] {
        for name in ["../victim", "/etc/x", "a/../../victim", "", ".", "a//b", "_manifest.json", "a\u{7}"] {
            let error = write(&storage, &to, Others::Kept, &[(name, "x")]).await.unwrap_err();
            assert!(error.is_invalid_input() && error.to_string().contains("cannot be the name of a file"), "{error}");
        }
        let odd = [("p[1].csv", "1"), ("..\\x.csv", "2"), ("a b%20#?.csv", "3"), ("ä=ö/ü.csv", "4")];
        write(&storage, &to, Others::Kept, &odd).await.unwrap();
        assert_eq!(read(&storage, &to).await, texts(&odd));
    }
    assert_eq!(tree(disk.path())["victim"], "here");
    assert_eq!(tree(disk.path()).len(), 1 + 5);
}

#[tokio::test]
async fn a_link_to_a_folder_stays_a_link_and_one_inside_leads_nowhere() {
    let disk = tempfile::tempdir().unwrap();
    let storage = Storage::new([]);
    fs::create_dir_all(disk.path().join("real")).unwrap();
    fs::create_dir_all(disk.path().join("elsewhere")).unwrap();
    symlink(disk.path().join("real"), disk.path().join("link")).unwrap();
    let to = folder_url(&disk.path().join("link"));
    for text in ["1", "2"] {
        write(&storage, &to, Others::Refused, &[("a", text)]).await.unwrap();
        assert_eq!(read(&storage, &to).await, texts(&[("a", text)]));
    }
    assert!(disk.path().join("link").is_symlink());
    assert_eq!(tree(&disk.path().join("real")).len(), 2);

    symlink(disk.path().join("elsewhere"), disk.path().join("real/sub")).unwrap();
    let error = write(&storage, &to, Others::Kept, &[("sub/a", "3")]).await.unwrap_err().to_string();
    assert!(error.contains("leads out of the folder"), "{error}");
    assert_eq!(fs::read_dir(disk.path().join("elsewhere")).unwrap().count(), 0);
}

#[tokio::test]
async fn places_that_cannot_be_written_are_found_at_once() {
    let disk = tempfile::tempdir().unwrap();
    let storage = Storage::new([]);
    fs::write(disk.path().join("file"), "x").unwrap();
    fs::create_dir(disk.path().join("full")).unwrap();
    fs::write(disk.path().join("full/stranger"), "x").unwrap();
    let before = tree(disk.path());
    for (path, expected) in [
        ("file/out/", "a part of its path is a file"),
        ("file/", "is a file"),
        ("full/", "already holds stranger"),
        ("file/x", "a part of its path is a file"),
        ("full", "a folder of that name"),
    ] {
        let to = parse_url(&format!("{}/{path}", disk.path().display())).unwrap();
        let error = probe(&storage, &to, Others::Refused).await.unwrap_err();
        assert!(error.to_string().contains(expected), "{path}: {error}");
    }
    for url in ["https://host/out/", "https://host/x", "file:///proc/counterweight/x"] {
        let error = probe(&storage, &parse_url(url).unwrap(), Others::Kept).await.unwrap_err();
        assert!(error.to_string().contains("cannot write"), "{error}");
    }
    for path in ["new/", "new/x", "new/deep/out/", "new/deep/x", "file"] {
        let to = parse_url(&format!("{}/{path}", disk.path().display())).unwrap();
        probe(&storage, &to, Others::Refused).await.unwrap();
    }
    assert_eq!(tree(disk.path()), before, "a probe leaves nothing");
    assert_eq!(fs::read_dir(disk.path()).unwrap().count(), 2);
}

/// What a run leaves that is killed: its staging folder, without the lock.
fn kill(folder: &Path, run: &str, switch: Option<serde_json::Value>, staged: &[(&str, &str)]) {
    let staging = folder.join(format!(".counterweight-{run}"));
    fs::create_dir_all(staging.join("0/files")).unwrap();
    fs::write(staging.join("lock"), "").unwrap();
    for (name, text) in staged {
        fs::write(staging.join("0/files").join(name), text).unwrap();
    }
    if let Some(switch) = switch {
        fs::write(staging.join("0/switch.json"), switch.to_string()).unwrap();
    }
}

#[tokio::test]
async fn what_dead_runs_have_left_goes_with_the_next() {
    let disk = tempfile::tempdir().unwrap();
    let storage = Storage::new([]);
    let out = disk.path().join("out");
    let to = folder_url(&out);
    write(&storage, &to, Others::Kept, &[("a.csv", "1")]).await.unwrap();
    let dead = "20200101t000000-0000000";
    kill(disk.path(), &format!("{dead}1"), None, &[("x", "half")]);
    kill(&out, &format!("{dead}2"), None, &[("x", "half")]);
    fs::create_dir(disk.path().join(format!(".counterweight-{dead}3"))).unwrap();
    fs::create_dir(disk.path().join(".counterweight-mine")).unwrap();
    fs::write(disk.path().join(".counterweight-mine/x"), "mine").unwrap();

    write(&storage, &to, Others::Kept, &[("a.csv", "2")]).await.unwrap();
    assert_eq!(read(&storage, &to).await, texts(&[("a.csv", "2")]));
    let left: Vec<_> = tree(disk.path()).into_keys().collect();
    assert_eq!(left.len(), 3, "{left:?}");
    assert_eq!(left[0], ".counterweight-mine/x", "what is not ours stays");
    assert_eq!(fs::read_dir(disk.path()).unwrap().count(), 2, "empty staging folders go, too");
}

/// Killed between two renames of a folder that is written file by file: whoever comes next finishes it, unless the
/// folder has been written since.
#[tokio::test]
async fn a_switch_that_was_killed_is_finished_or_undone() {
    for written_since in [false, true] {
        let disk = tempfile::tempdir().unwrap();
        let storage = Storage::new([]);
        let out = disk.path().join("out");
        let to = folder_url(&out);
        let base = write(&storage, &to, Others::Kept, &[("a.csv", "1"), ("b.csv", "1")]).await.unwrap();
        fs::write(out.join("notes"), "mine").unwrap();

        let run = "20200101t000000-00000001";
        let file = |name: &str, text: &str| ManifestFile {
            name: format!("{name}.csv"),
            path: format!("{name}-{run}.csv"),
            size: text.len() as u64,
            hash: blake3::hash(text.as_bytes()).to_hex().to_string(),
        };
        let id = RunId::parse(run).unwrap();
        let manifest = Manifest::new(&id, vec![file("a", "22"), file("b", "22")]).bytes().unwrap();
        let switch = serde_json::json!({
            "folder": out.canonicalize().unwrap(),
            "base": base,
            "files": [format!("a-{run}.csv"), format!("b-{run}.csv")],
            "before": [format!("a-{base}.csv"), format!("b-{base}.csv")],
        });
        // One of two files is in place.
        fs::write(out.join(format!("a-{run}.csv")), "22").unwrap();
        let staged = [(format!("b-{run}.csv"), "22"), (MANIFEST.to_owned(), std::str::from_utf8(&manifest).unwrap())];
        let staged: Vec<(&str, &str)> = staged.iter().map(|(name, text)| (name.as_str(), *text)).collect();
        assert_eq!(
            read_listed(&storage, &to).await,
            texts(&[("a.csv", "1"), ("b.csv", "1")]),
            "the old one, until then"
        );

        if written_since {
            write(&storage, &to, Others::Kept, &[("c.csv", "3")]).await.unwrap();
        }
        kill(&out, run, Some(switch), &staged);
        // Any run that stages there sweeps.
        Outputs::write(async |outputs| outputs.put(&storage, &url(&out.join("other")), b"").await).await.unwrap();
        let expected =
            if written_since { texts(&[("c.csv", "3")]) } else { texts(&[("a.csv", "22"), ("b.csv", "22")]) };
        assert_eq!(read_listed(&storage, &to).await, expected);
        let left = tree(disk.path());
        assert_eq!(left.len(), expected.len() + 3, "{left:?}");
        assert_eq!(left["out/notes"], "mine");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn runs_side_by_side_leave_one_of_them_whole() {
    let disk = tempfile::tempdir().unwrap();
    let storage = Arc::new(Storage::new([]));
    fs::create_dir(disk.path().join("mixed")).unwrap();
    fs::write(disk.path().join("mixed/notes"), "mine").unwrap();
    let places = [
        parse_url("memory:///b/out/").unwrap(),
        folder_url(&disk.path().join("out")),
        folder_url(&disk.path().join("mixed")),
    ];
    for to in places {
        let mut writers = tokio::task::JoinSet::new();
        for writer in 0..4 {
            let (storage, to) = (Arc::clone(&storage), to.clone());
            writers.spawn(async move {
                for _ in 0..10 {
                    let text = writer.to_string();
                    let names: Vec<String> = (0..=writer).map(|file| format!("{file}.csv")).collect();
                    let files: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), text.as_str())).collect();
                    write(&storage, &to, Others::Kept, &files).await.unwrap();
                }
            });
        }
        let (store, path) = storage.resolve(&to).unwrap();
        let (mut looks, mut seen) = (0, 0);
        while !writers.is_empty() {
            while writers.try_join_next().map(Result::unwrap).is_some() {}
            // A reader that lists and then reads, as a query does: each file is there or has been removed.
            let Ok(listed) = list(&*store, &path).await else { continue };
            let mut found = Vec::new();
            for object in listed {
                let name = object.location.filename().unwrap().to_owned();
                // No reader looks into hidden folders.
                if !name.ends_with(".csv") || object.location.as_ref().contains("/.counterweight-") {
                    continue;
                }
                match object_store::ObjectStoreExt::get(&*store, &object.location).await {
                    Ok(object) => found.push(String::from_utf8(object.bytes().await.unwrap().to_vec()).unwrap()),
                    Err(object_store::Error::NotFound { .. }) => {
                        found.clear();
                        break;
                    }
                    Err(error) => panic!("{error}"),
                }
            }
            looks += 1;
            if let Some(text) = found.first() {
                seen += 1;
                assert!(found.iter().all(|other| other == text), "{to}: {found:?}");
                assert_eq!(found.len(), text.parse::<usize>().unwrap() + 1, "{to}: {found:?}");
            }
        }
        assert!(seen > 0, "of {looks} looks none saw a whole folder");
        let files = read_listed(&storage, &to).await;
        let text = files.values().next().unwrap();
        assert_eq!(files.len(), text.parse::<usize>().unwrap() + 1);
    }
    let left = tree(disk.path()).into_keys().filter(|name| name.contains("counterweight-")).count();
    assert_eq!(left, 0);
}

#[tokio::test]
async fn many_files_hold_no_file_open() {
    let disk = tempfile::tempdir().unwrap();
    let storage = Storage::new([]);
    let to = folder_url(&disk.path().join("out"));
    let open = || fs::read_dir("/proc/self/fd").unwrap().count();
    let before = open();
    Outputs::write(async |outputs| {
        let folder = outputs.folder(&storage, &to, Others::Refused).await?;
        for file in 0..500 {
            folder.put(&format!("{file}.csv"), b"x").await?;
        }
        assert!(open() < before + 100, "{} files are open, {before} before", open());
        Ok(())
    })
    .await
    .unwrap();
    assert_eq!(read(&storage, &to).await.len(), 500);
}
