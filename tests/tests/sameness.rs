//! The same pictures are the same dataset, whichever way they come in: through the function in its sandbox, or natively
//! through the command line.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::process::Command;

use tests::{
    house::{House, program},
    pictures,
};

#[tokio::test(flavor = "multi_thread")]
async fn the_function_and_the_command_line_make_the_same_dataset() {
    let (by_function, natively) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let archive = mixed_formats();
    let house = House::start(by_function.path()).await.unwrap();
    let manifest = house.upload(archive.clone()).await.unwrap();
    assert!(house.stop().await.unwrap().success());

    let path = natively.path().join("shapes.zip");
    std::fs::write(&path, archive).unwrap();
    let out = Command::new(program("fovea").unwrap())
        .args(["dataset", "add", "--json", "--data"])
        .args([natively.path(), &path])
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));

    let [one, other] = [by_function, natively].map(|dir| {
        let mut all = store::Volumes::under(dir.path()).datasets().unwrap();
        assert_eq!(all.len(), 1);
        let dataset = all.remove(0);
        dataset.verify().unwrap();
        (dataset.manifest.id.clone(), dataset.manifest.files.clone())
    });
    assert_eq!(manifest["id"], one.0.as_str());
    assert_eq!(one, other, "down to the last pixel");
}

/// PNGs and JPEGs of several sizes, so that decoding and resampling both count.
fn mixed_formats() -> Vec<u8> {
    use std::io::{Cursor, Write};
    let mut zip = zip::ZipWriter::new(Cursor::new(vec![]));
    for (c, label) in pictures::LABELS.into_iter().enumerate() {
        for n in 0..10u64 {
            let picture = pictures::picture(label, n);
            let side = 40 + 13 * n as u32 + c as u32;
            let picture = image::imageops::resize(&picture, side, side / 2 + 20, image::imageops::FilterType::Triangle);
            let (format, end) = [(image::ImageFormat::Png, "png"), (image::ImageFormat::Jpeg, "jpg")][n as usize % 2];
            zip.start_file(format!("{label}/{n}.{end}"), zip::write::SimpleFileOptions::default()).unwrap();
            zip.write_all(&pictures::encode(&picture, format)).unwrap();
        }
    }
    zip.finish().unwrap().into_inner()
}
