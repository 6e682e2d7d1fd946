//! Fashion-MNIST as a sample data set: 70,000 gray pictures of 28 × 28 pixels in ten classes, as Debian packs it.
//!
//! The pictures take the same way as anyone's: encoded, processed, cleaned and published. Train and test stay apart as
//! their makers put them; validation is cut from train.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
    process::Command,
};

use api::{PreprocessSpec, dataset::Split};
use flate2::read::GzDecoder;

use crate::{IngestError, Picture, Result, Source};

/// Where Debian's package puts the files.
pub const DEBIAN_DIR: &str = "/usr/share/datasets/fashion-mnist";
/// Debian's package.
pub const DEBIAN_PACKAGE: &str = "dataset-fashion-mnist";
/// Training pictures for each test picture.
const TRAIN_PER_TEST: usize = 6;

const LABELS: [&str; 10] =
    ["t-shirt or top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot"];

const SPLITS: [(Split, &str, &str); 2] = [
    (Split::Train, "train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"),
    (Split::Test, "t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"),
];

/// Installs Debian's package if `dir` has no data, and this process may.
///
/// # Errors
/// [`IngestError::Sample`] with what to do by hand.
pub fn ensure_installed(dir: &Path) -> Result<()> {
    let is_there = || SPLITS.iter().all(|(_, images, labels)| dir.join(images).is_file() && dir.join(labels).is_file());
    if is_there() {
        return Ok(());
    }
    let remedy = format!(
        "Fashion-MNIST is not in {}; install it with `sudo apt-get install {DEBIAN_PACKAGE}`, or name the folder of its \
         four .gz files",
        dir.display()
    );
    if dir != Path::new(DEBIAN_DIR) || !rustix::process::geteuid().is_root() {
        return Err(IngestError::Sample(remedy));
    }
    let apt = Command::new("apt-get")
        .args(["install", "--yes", "--no-install-recommends", DEBIAN_PACKAGE])
        .env("DEBIAN_FRONTEND", "noninteractive")
        .output();
    match apt {
        Ok(output) if output.status.success() && is_there() => Ok(()),
        Ok(output) => {
            let told = String::from_utf8_lossy(&output.stderr);
            let last = told.lines().last().unwrap_or("it gave no reason");
            Err(IngestError::Sample(format!("{remedy} (apt-get failed here: {last})")))
        }
        Err(_) => Err(IngestError::Sample(remedy)),
    }
}

/// Reads the four files in `dir` and encodes each picture as PNG. Blocks.
///
/// `per_class` takes the first so many training pictures of each class, and a sixth of that for testing, which is the
/// proportion of the whole.
///
/// # Errors
/// [`IngestError::Sample`] if a file is not what it should be.
pub fn load(dir: &Path, per_class: Option<usize>) -> Result<Source> {
    let mut pictures = vec![];
    for (split, images, labels) in SPLITS {
        let most = match (per_class, split) {
            (None, _) => usize::MAX,
            (Some(n), Split::Test) => n.div_ceil(TRAIN_PER_TEST),
            (Some(n), _) => n,
        };
        let images = read_idx::<3>(&dir.join(images))?;
        let labels = read_idx::<1>(&dir.join(labels))?;
        add(split, &images, &labels, most, &mut pictures)?;
    }
    let name = match per_class {
        None => "fashion-mnist".to_owned(),
        Some(n) => format!("fashion-mnist-{n}"),
    };
    Ok(Source::Memory { name, pictures })
}

fn add(split: Split, images: &Idx<3>, labels: &Idx<1>, most: usize, pictures: &mut Vec<Picture>) -> Result<()> {
    let [n, height, width] = images.shape;
    if labels.shape != [n] {
        return Err(IngestError::Sample(format!("there are {n} pictures and {} labels", labels.shape[0])));
    }
    let spec = PreprocessSpec { width: width as u32, height: height as u32, ..PreprocessSpec::square(1) };
    spec.validate().map_err(IngestError::Sample)?;
    let mut taken = [0; LABELS.len()];
    for (at, (gray, &label)) in images.data.chunks_exact(width * height).zip(&labels.data).enumerate() {
        let (Some(name), Some(taken)) = (LABELS.get(usize::from(label)), taken.get_mut(usize::from(label))) else {
            return Err(IngestError::Sample(format!("a label is {label}; expected 0 to 9")));
        };
        if *taken == most {
            continue;
        }
        *taken += 1;
        let rgb: Vec<u8> = gray.iter().flat_map(|value| [*value; 3]).collect();
        pictures.push(Picture {
            name: format!("{}/{name}/{at:05}.png", split.name()),
            label: (*name).to_owned(),
            split: Some(split),
            bytes: imaging::encode_png(&rgb, &spec).into(),
        });
    }
    Ok(())
}

/// An array of bytes in `D` dimensions.
#[derive(Debug, PartialEq, Eq)]
struct Idx<const D: usize> {
    shape: [usize; D],
    data: Vec<u8>,
}

/// Most elements an array may have; Fashion-MNIST has 47 million.
const MOST_ELEMENTS: usize = 1 << 28;

fn read_idx<const D: usize>(path: &Path) -> Result<Idx<D>> {
    let file = File::open(path).map_err(IngestError::read(path))?;
    parse_idx(GzDecoder::new(file)).map_err(|e| IngestError::Sample(format!("{} is no IDX file: {e}", path.display())))
}

/// The header is two zeros, the type (8: unsigned bytes), the number of dimensions and each of them as big-endian u32.
fn parse_idx<const D: usize>(mut source: impl Read) -> io::Result<Idx<D>> {
    let wrong = |problem: String| io::Error::new(io::ErrorKind::InvalidData, problem);
    let mut magic = [0; 4];
    source.read_exact(&mut magic)?;
    if magic != [0, 0, 8, D as u8] {
        return Err(wrong(format!("it begins with {magic:?}; expected [0, 0, 8, {D}]")));
    }
    let mut shape = [0; D];
    for size in &mut shape {
        let mut bytes = [0; 4];
        source.read_exact(&mut bytes)?;
        *size = u32::from_be_bytes(bytes) as usize;
    }
    let elements = shape.iter().try_fold(1usize, |product, size| product.checked_mul(*size));
    let elements =
        elements.filter(|n| *n <= MOST_ELEMENTS && *n > 0).ok_or_else(|| wrong(format!("its shape is {shape:?}")))?;
    let mut data = vec![];
    source.take(elements as u64 + 1).read_to_end(&mut data)?;
    if data.len() != elements {
        let more = if data.len() > elements { "more" } else { "less" };
        return Err(wrong(format!("it has {more} data than its shape {shape:?} says")));
    }
    Ok(Idx { shape, data })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    fn idx(shape: &[u32], data: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0, 0, 8, shape.len() as u8];
        bytes.extend(shape.iter().flat_map(|size| size.to_be_bytes()));
        bytes.extend(data);
        bytes
    }

    #[test]
    fn an_array_is_read_whole_or_not_at_all() {
        let whole = idx(&[2, 1, 3], &[1, 2, 3, 4, 5, 6]);
        assert_eq!(parse_idx::<3>(&whole[..]).unwrap(), Idx { shape: [2, 1, 3], data: vec![1, 2, 3, 4, 5, 6] });
        for cut in 0..whole.len() {
            assert!(parse_idx::<3>(&whole[..cut]).is_err(), "cut at {cut}");
        }
        assert!(parse_idx::<1>(&whole[..]).is_err(), "of other dimensions");
        assert!(parse_idx::<3>(&idx(&[2, 1, 3], &[0; 7])[..]).is_err(), "with a rest");
        assert!(parse_idx::<3>(&idx(&[u32::MAX; 3], &[0])[..]).is_err(), "endless");
        assert!(parse_idx::<3>(&idx(&[0, 1, 1], &[])[..]).is_err(), "empty");
    }

    #[test]
    fn a_missing_folder_is_told_with_its_remedy() {
        let error = ensure_installed(Path::new("/nowhere")).unwrap_err().to_string();
        assert!(error.contains("apt-get install dataset-fashion-mnist"), "{error}");
    }
}
