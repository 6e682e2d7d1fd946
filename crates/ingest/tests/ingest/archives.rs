//! Archives of strangers: what is taken, what is passed over, what is refused as a whole.

use std::{fs, io::Write};

use api::{ErrorCode, dataset::RejectReason};
use ingest::{Limits, Source};

use crate::house::*;

#[tokio::test]
async fn every_kind_of_archive_and_a_folder_become_the_same_dataset() {
    let house = House::new();
    let mut pets = pets(8);
    let first = house.add_archive(&zip(&pets)).await.unwrap();
    assert!(!first.published.existed);
    first.published.dataset.verify().unwrap();
    let manifest = &first.published.dataset.manifest;
    assert_eq!((manifest.name.as_str(), manifest.pictures), ("pets", 16));
    assert_eq!(manifest.provenance.source, "pets.zip");
    assert_eq!(manifest.preprocess.width, 32);

    Random::new(1).shuffle(&mut pets);
    for again in [house.add_archive(&tar(&pets)).await, house.add_archive(&gzip(&tar(&pets))).await] {
        let again = again.unwrap();
        assert!(again.published.existed);
        assert_eq!(again.published.dataset.manifest.id, manifest.id);
    }
    let wrapped: Vec<_> = pets.iter().map(|(name, bytes)| (format!("my pets/x/{name}"), bytes.clone())).collect();
    let again = house.add(folder(&house.beside("folder"), &wrapped)).await.unwrap();
    assert_eq!((again.published.existed, &again.published.dataset.manifest.id), (true, &manifest.id));
    assert_eq!(house.volumes().dataset_ids().unwrap().len(), 1);
}

#[tokio::test]
async fn paths_that_lead_out_are_left_out_of_a_zip_and_reach_no_disk() {
    let house = House::new();
    let mut files = pets(4);
    for name in ["../../../evil-1.png", "/evil-2.png", "cats/../../evil-3.png", "..\\evil-4.png", "C:\\evil-5.png"] {
        files.push((name.to_owned(), picture(77)));
    }
    let outcome = house.add_archive(&zip(&files)).await.unwrap();
    assert_eq!(outcome.published.dataset.manifest.pictures, 8);
    assert_eq!(outcome.rejected.len(), 5);
    assert!(outcome.rejected.iter().all(|file| file.reason == RejectReason::UnsafePath), "{:?}", outcome.rejected);
    assert!(!std::path::Path::new("/evil-2.png").exists());
    let mut found = vec![];
    walk(&house.beside(""), &mut found);
    assert!(!found.iter().any(|path| path.contains("evil")), "{found:?}");
}

fn walk(dir: &std::path::Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        found.push(path.display().to_string());
        if path.is_dir() {
            walk(&path, found);
        }
    }
}

#[tokio::test]
async fn links_devices_and_unsafe_paths_are_left_out_of_a_tar() {
    let house = House::new();
    let mut tar = tar::Builder::new(vec![]);
    for (name, bytes) in pets(4) {
        tar_entry(&mut tar, &name, &bytes);
    }
    tar_entry(&mut tar, "../slip.png", &picture(50));
    tar_entry(&mut tar, "/absolute.png", &picture(51));
    for (name, kind) in [
        ("cats/symlink.png", tar::EntryType::Symlink),
        ("cats/hardlink.png", tar::EntryType::Link),
        ("cats/null", tar::EntryType::Char),
        ("cats/disk", tar::EntryType::Block),
        ("cats/pipe", tar::EntryType::Fifo),
    ] {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(0);
        tar.append_link(&mut header, name, "/etc/passwd").unwrap();
    }
    let outcome = house.add_archive(&tar.into_inner().unwrap()).await.unwrap();
    assert_eq!(outcome.published.dataset.manifest.pictures, 8);
    let rejects = rejects(&outcome);
    assert_eq!(rejects.len(), 7, "{rejects:?}");
    assert!(rejects.values().all(|reason| *reason == RejectReason::UnsafePath), "{rejects:?}");
}

#[tokio::test]
async fn a_symlink_in_a_zip_is_left_out() {
    let house = House::new();
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(vec![]));
    let options = zip::write::SimpleFileOptions::default();
    for (name, bytes) in pets(4) {
        zip.start_file(name, options).unwrap();
        zip.write_all(&bytes).unwrap();
    }
    zip.add_symlink("cats/link.png", "/etc/passwd", options).unwrap();
    let outcome = house.add_archive(&zip.finish().unwrap().into_inner()).await.unwrap();
    assert_eq!(rejects(&outcome), [("cats/link.png", RejectReason::UnsafePath)].into());
}

#[cfg(unix)]
#[tokio::test]
async fn a_symlink_in_a_folder_is_not_followed() {
    let house = House::new();
    let root = house.beside("folder");
    let source = folder(&root, &pets(4));
    fs::write(house.beside("secret.png"), picture(99)).unwrap();
    std::os::unix::fs::symlink(house.beside("secret.png"), root.join("cats/link.png")).unwrap();
    std::os::unix::fs::symlink(&root, root.join("dogs/loop")).unwrap();
    let outcome = house.add(source).await.unwrap();
    assert_eq!(
        rejects(&outcome),
        [("cats/link.png", RejectReason::UnsafePath), ("dogs/loop", RejectReason::UnsafePath)].into()
    );
}

#[tokio::test]
async fn litter_and_loose_files_and_nested_archives_are_strays() {
    let house = House::new();
    let mut files = pets(4);
    files.extend(crate::house::files([
        ("cats/.DS_Store", vec![1]),
        ("__MACOSX/cats/._1.png", vec![2]),
        ("dogs/Thumbs.db", vec![3]),
        ("loose.png", picture(60)),
        ("cats/more.zip", zip(&pets(1))),
        ("cats/picture.png", gzip(b"a gzip file under a picture's name")),
        ("cats/old.tar", tar(&pets(1))),
    ]));
    for (kind, archive) in [("zip", zip(&files)), ("tar", tar(&files))] {
        let outcome = house.add_archive(&archive).await.unwrap();
        let rejects = rejects(&outcome);
        assert_eq!(rejects.len(), 7, "{kind}: {rejects:?}");
        assert!(rejects.values().all(|reason| *reason == RejectReason::Stray), "{kind}: {rejects:?}");
        assert_eq!(outcome.files, 15, "{kind}");
    }
}

#[tokio::test]
async fn a_bomb_is_refused_while_it_unpacks_and_leaves_nothing() {
    let mut house = House::new();
    house.limits = Limits { inflation_free_bytes: 8 << 20, ..house.limits };
    let zeros = vec![0; 1 << 20];
    let bomb: Vec<_> = (0..24).map(|n| (format!("cats/{n}"), zeros.clone())).collect();
    for (kind, archive) in [("zip", zip(&bomb)), ("tar.gz", gzip(&tar(&bomb)))] {
        let (code, message) = house.refuse_archive(&archive).await;
        assert_eq!(code, ErrorCode::TooLarge, "{kind}");
        assert!(message.contains("looks like a bomb"), "{kind}: {message}");
    }
}

#[tokio::test]
async fn one_endless_entry_is_left_out_after_its_limit() {
    let mut house = House::new();
    house.limits = Limits { file_bytes: 100_000, ..house.limits };
    let mut files = pets(4);
    files.insert(0, ("cats/endless.png".to_owned(), vec![0; 5 << 20]));
    for archive in [zip(&files), tar(&files), gzip(&tar(&files))] {
        let outcome = house.add_archive(&archive).await.unwrap();
        assert_eq!(rejects(&outcome), [("cats/endless.png", RejectReason::TooLarge)].into());
    }
}

#[tokio::test]
async fn a_lie_about_an_entrys_size_is_of_no_use() {
    let mut house = House::new();
    house.limits = Limits { file_bytes: 100_000, unpacked_bytes: 3 << 20, inflation_ratio: u64::MAX, ..house.limits };
    let (name, true_size) = ("cats/liar.png", 0x0021_4365_u32);
    let liar = vec![7; true_size as usize];
    let mut archive = zip(&files([(name, liar), ("dogs/1.png", picture(1)), ("cats/1.png", picture(2))]));
    // Both headers of the entry say it has ten bytes.
    let true_size = true_size.to_le_bytes();
    for at in 0..archive.len() - 4 {
        if archive[at..at + 4] == true_size {
            archive[at..at + 4].copy_from_slice(&10u32.to_le_bytes());
        }
    }
    let outcome = house.add_archive(&archive).await.unwrap();
    assert!(matches!(rejects(&outcome)[name], RejectReason::TooLarge | RejectReason::Undecodable));
    assert_eq!(outcome.published.dataset.manifest.pictures, 2);
}

#[tokio::test]
async fn all_limits_are_kept() {
    let mut house = House::new();
    let archive = zip(&pets(20));
    house.limits.unpacked_bytes = 30_000;
    let (code, message) = house.refuse_archive(&archive).await;
    assert_eq!(code, ErrorCode::TooLarge);
    assert!(message.contains("unpacks to more than"), "{message}");

    house.limits = Limits { entries: 39, ..House::new().limits };
    for archive in [archive.clone(), tar(&pets(20))] {
        let (code, message) = house.refuse_archive(&archive).await;
        assert_eq!(code, ErrorCode::TooLarge);
        assert!(message.contains("more than 39 files"), "{message}");
    }

    house.limits = Limits { reserve_bytes: u64::MAX, ..House::new().limits };
    let (code, message) = house.refuse_archive(&archive).await;
    assert_eq!(code, ErrorCode::InsufficientStorage);
    assert!(message.contains("free some room"), "{message}");
}

#[tokio::test]
async fn a_password_is_asked_not_to_be_there() {
    let house = House::new();
    let mut archive = zip(&pets(2));
    // Bit 0 of the flags of every local and central header.
    for at in 0..archive.len() - 10 {
        match &archive[at..at + 4] {
            b"PK\x03\x04" => archive[at + 6] |= 1,
            b"PK\x01\x02" => archive[at + 8] |= 1,
            _ => {}
        }
    }
    let (code, message) = house.refuse_archive(&archive).await;
    assert_eq!(code, ErrorCode::BadRequest);
    assert!(message.contains("password"), "{message}");
}

#[tokio::test]
async fn a_truncated_archive_is_refused_wherever_it_is_cut() {
    let house = House::new();
    let pets = pets(3);
    for (kind, archive) in [("zip", zip(&pets)), ("tar", tar(&pets)), ("tar.gz", gzip(&tar(&pets)))] {
        // A tar file ends in two blocks of zeros; it is whole as soon as the second begins.
        let whole = if kind == "tar" { archive.len() - 511 } else { archive.len() };
        for cut in [whole - 1, whole - 600, whole - 1600, whole / 2, 8192, whole / 3, 700] {
            let (code, message) = house.refuse_archive(&archive[..cut]).await;
            assert_eq!(code, ErrorCode::BadRequest, "{kind} cut at {cut}: {message}");
        }
    }
}

#[tokio::test]
async fn what_is_no_archive_is_told_what_to_send() {
    let house = House::new();
    for (bytes, told) in [
        (&b""[..], "neither ZIP nor tar"),
        (b"hello", "neither ZIP nor tar"),
        (&picture(1), "neither ZIP nor tar"),
        (&vec![0; 2048], "neither ZIP nor tar"),
        (b"7z\xbc\xaf\x27\x1c and so on", "it is a 7z archive"),
        (b"Rar!\x1a\x07\x01\x00", "it is a RAR archive"),
        (&gzip(b"no tar inside"), "no tar file"),
        (&gzip(&vec![b'x'; 4096]), "no tar file"),
    ] {
        let (code, message) = house.refuse_archive(bytes).await;
        assert_eq!(code, ErrorCode::BadRequest, "{message}");
        assert!(message.contains(told), "{message}");
    }
    let (code, message) = house.refuse_archive(&zip(&[])).await;
    assert_eq!(code, ErrorCode::Unprocessable);
    assert!(message.contains("folder per class"), "{message}");
}

#[tokio::test]
async fn arbitrary_damage_never_panics_and_never_leaves_anything() {
    let mut random = Random::new(7);
    let pets = pets(2);
    for archive in [zip(&pets), tar(&pets), gzip(&tar(&pets))] {
        for _ in 0..150 {
            let house = House::new();
            let mut damaged = archive.clone();
            for _ in 0..=random.below(6) {
                let at = random.below(damaged.len() as u64) as usize;
                damaged[at] = random.below(256) as u8;
            }
            // `add_archive` checks the staging folder; any outcome is right but a panic.
            if let Ok(outcome) = house.add_archive(&damaged).await {
                outcome.published.dataset.verify().unwrap();
            }
        }
    }
}

#[tokio::test]
async fn a_damaged_entry_of_a_zip_spoils_no_other() {
    let house = House::new();
    let pets = pets(4);
    let mut archive = zip(&pets);
    let (name, bytes) = &pets[0];
    // PNGs hardly deflate, so the middle of the first entry is somewhere behind its name.
    let at = name.len() + 30 + bytes.len() / 2;
    archive[at] ^= 0xff;
    let outcome = house.add_archive(&archive).await.unwrap();
    assert_eq!(rejects(&outcome), [(name.as_str(), RejectReason::Undecodable)].into());
    assert_eq!(outcome.published.dataset.manifest.pictures, 7);
}

#[tokio::test]
async fn entries_of_one_name_are_all_taken() {
    let house = House::new();
    let pets = pets(3);
    let mut same: Vec<_> = pets.clone();
    same[1].0 = same[0].0.clone();
    let outcome = house.add_archive(&tar(&same)).await.unwrap();
    assert_eq!(outcome.published.dataset.manifest.pictures, 6);

    let mut archive = zip(&pets);
    for at in 0..archive.len() - 10 {
        if &archive[at..at + 10] == b"cats/1.png" {
            archive[at..at + 10].copy_from_slice(b"cats/0.png");
        }
    }
    let again = house.add_archive(&archive).await.unwrap();
    assert_eq!(again.published.dataset.manifest.id, outcome.published.dataset.manifest.id);
}

#[tokio::test]
async fn names_of_every_writing_and_length_are_shown_clean() {
    let house = House::new();
    let long = format!("cats/{}/1.png", "x".repeat(180));
    let mut tar = tar::Builder::new(vec![]);
    for (name, seed) in [("кошки/1.png", 1), ("犬/1.png", 2), (long.as_str(), 3)] {
        let mut header = tar::Header::new_gnu();
        let bytes = picture(seed);
        header.set_size(bytes.len() as u64);
        tar.append_data(&mut header, name, &bytes[..]).unwrap();
    }
    let bytes = picture(4);
    let mut header = tar::Header::new_ustar();
    header.set_size(bytes.len() as u64);
    tar.append_pax_extensions([("path", "pax/ünïcode.png".as_bytes())]).unwrap();
    tar.append_data(&mut header, "short", &bytes[..]).unwrap();
    tar_entry(&mut tar, "bell\u{7}s/1.png", &picture(5));
    let outcome = house.add_archive(&tar.into_inner().unwrap()).await.unwrap();
    let names: Vec<_> = records(&outcome).into_keys().collect();
    assert_eq!(names, ["bells/1.png", &long, "pax/ünïcode.png", "кошки/1.png", "犬/1.png"]);

    let mut archive = zip(&files([("zz/1.png", picture(1)), ("dogs/1.png", picture(2))]));
    // 0x81 is ü in the code page of old ZIP files, and no UTF-8.
    for at in 0..archive.len() - 4 {
        if &archive[at..at + 4] == b"zz/1" {
            archive[at] = 0x81;
        }
    }
    let outcome = house.add_archive(&archive).await.unwrap();
    assert_eq!(outcome.published.dataset.labels(), ["dogs", "üz"]);
}

#[tokio::test]
async fn an_endless_name_in_a_tar_is_not_held_in_memory() {
    let house = House::new();
    let mut tar = tar::Builder::new(vec![]);
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::GNULongName);
    header.set_size(4 << 20);
    header.set_cksum();
    tar.append(&header, &vec![b'x'; 4 << 20][..]).unwrap();
    tar_entry(&mut tar, "cats/1.png", &picture(1));
    let (code, message) = house.refuse_archive(&gzip(&tar.into_inner().unwrap())).await;
    assert_eq!(code, ErrorCode::BadRequest);
    assert!(message.contains("longer than 64 KiB"), "{message}");
}

#[tokio::test]
async fn a_missing_path_is_named() {
    let house = House::new();
    for source in [
        Source::Folder("/nowhere/at/all".into()),
        Source::Archive { path: "/nowhere/at/all".into(), name: "all".into() },
    ] {
        assert!(house.add(source).await.unwrap_err().to_string().contains("/nowhere/at/all"));
    }
}
