//! Pretrained networks: which are installed, what they turn pixels into, and where they can be cut in two, a frozen front
//! and a back that is trained on.
//!
//! Weights files are read in `efficientnet`, `squeezenet` and `own`; training is elsewhere.

pub mod efficientnet;
pub mod own;
pub mod squeezenet;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use api::{
    backbone::{BUILT_IN, BuiltIn, Installed, Sides},
    model::Backbone as Identity,
};
use sha2::{Digest, Sha256};

use self::{efficientnet::Scale, own::Spliced, squeezenet::SqueezeNet};
use crate::{
    Result, TrainerError,
    graph::{Builder, Value},
    hdf5,
    model::{Layer, Network, Weights},
    torch_file,
};

/// Environment variable with the folder that holds the weights files of built-in backbones.
pub const BACKBONES_VARIABLE: &str = "FOVEA_BACKBONES";

/// Prefix of the names of a backbone's layers.
const PREFIX: &str = "backbone.";

/// Layers in blocks, a chain that can be cut in front of each.
#[derive(Clone, Debug, Default)]
pub struct Blocks {
    /// From pixels to pooled features.
    pub layers: Vec<Layer>,
    /// Index of the first layer of each block.
    pub starts: Vec<usize>,
    /// In the layers' order.
    pub weights: Weights,
    /// Per layer with weights and output channel: what the normalisation that was folded in multiplies them by.
    pub gains: Vec<Vec<f32>>,
}

#[derive(Clone, Debug)]
enum Body {
    Blocks(Blocks),
    SqueezeNet(Box<SqueezeNet>),
    Spliced(Box<Spliced>),
}

/// A pretrained network from normalised pixels to features.
#[derive(Clone, Debug)]
pub struct Backbone {
    identity: Identity,
    mean: [f32; 3],
    deviation: [f32; 3],
    body: Body,
}

impl Backbone {
    /// What a model's manifest says about it.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Per channel, subtracted from the 0..=255 value.
    pub fn mean(&self) -> [f32; 3] {
        self.mean
    }

    /// Per channel, divides what is left.
    pub fn deviation(&self) -> [f32; 3] {
        self.deviation
    }

    /// Blocks that can be trained, counted from the end; none in a network that can only be used frozen.
    pub fn n_blocks(&self) -> usize {
        match &self.body {
            Body::Blocks(blocks) => blocks.starts.len(),
            Body::SqueezeNet(_) | Body::Spliced(_) => 0,
        }
    }

    /// Whether its features are much weaker than those of the others, so that it is worth trying only where nothing else is.
    pub fn is_last_resort(&self) -> bool {
        matches!(self.body, Body::SqueezeNet(_))
    }

    /// What settings have to go with.
    pub fn installed(&self) -> Installed {
        let sides = match &self.body {
            Body::Blocks(_) => Sides::From(1),
            Body::SqueezeNet(_) => Sides::From(squeezenet::LEAST_INPUT_SIZE),
            Body::Spliced(spliced) => Sides::Only(spliced.input_size()),
        };
        Installed { name: self.identity.name.clone(), sides, is_trainable: self.n_blocks() > 0 }
    }

    /// Whether it can see pictures of this side in pixels.
    ///
    /// # Errors
    /// `Settings` if it cannot, with what it can
    pub fn check_size(&self, input_size: u32) -> Result<()> {
        self.installed().unseen(input_size).map_or(Ok(()), |problem| Err(TrainerError::Settings(vec![problem])))
    }

    /// Number of its weights.
    pub fn n_weights(&self) -> usize {
        match &self.body {
            Body::Blocks(blocks) => blocks.weights.iter().map(Vec::len).sum(),
            Body::SqueezeNet(network) => network.n_weights(),
            Body::Spliced(spliced) => spliced.n_weights(),
        }
    }

    /// The parts in front of the last `trained_blocks` blocks and from them on; no blocks is no back at all.
    fn cut(&self, blocks: &Blocks, input_size: u32, trained_blocks: u32) -> (Network, Option<Network>) {
        let side = i64::from(input_size);
        let whole = Network::new(PREFIX, &[3, side, side], &blocks.layers);
        if trained_blocks == 0 {
            return (whole, None);
        }
        let first = blocks.starts.len().saturating_sub(trained_blocks as usize);
        let (front, back) = whole.split(blocks.starts[first]);
        (front, Some(back))
    }

    /// The part that is trained, with the weights it starts from.
    ///
    /// # Errors
    /// `Settings` if it is no block's, or the network has no blocks
    pub fn trained(&self, input_size: u32, trained_blocks: u32) -> Result<(Network, Weights)> {
        let problem = match &self.body {
            Body::Blocks(blocks) => {
                let (front, back) = self.cut(blocks, input_size, trained_blocks);
                if let Some(back) = back {
                    let first = front.parameters().len();
                    let back = back.with_gains(&blocks.gains[first / 2..]);
                    return Ok((back, blocks.weights[first..].to_vec()));
                }
                "trained_blocks is 0; fine_tune trains at least 1".to_owned()
            }
            Body::SqueezeNet(_) | Body::Spliced(_) => {
                format!("backbone {} can only be used frozen; choose linear or mlp", self.identity.name)
            }
        };
        Err(TrainerError::Settings(vec![problem]))
    }
}

/// The front of a backbone, which nothing trains.
#[derive(Clone, Debug)]
pub struct Frozen {
    /// Whose front.
    pub backbone: Arc<Backbone>,
    /// Side in pixels of what it sees.
    pub input_size: u32,
    /// Blocks at the end that do not belong to it; 0 if it is the whole network, down to pooled features.
    pub trained_blocks: u32,
}

impl Frozen {
    /// Shape per picture of what comes out.
    pub fn output(&self) -> Vec<i64> {
        match &self.backbone.body {
            Body::Blocks(blocks) => self.backbone.cut(blocks, self.input_size, self.trained_blocks).0.output().to_vec(),
            Body::SqueezeNet(_) => vec![squeezenet::FEATURES],
            Body::Spliced(spliced) => vec![spliced.n_features()],
        }
    }

    /// Number of its weights.
    pub fn n_weights(&self) -> usize {
        match &self.backbone.body {
            Body::Blocks(blocks) => self.backbone.cut(blocks, self.input_size, self.trained_blocks).0.n_weights(),
            Body::SqueezeNet(network) => network.n_weights(),
            Body::Spliced(spliced) => spliced.n_weights(),
        }
    }

    /// Multiply-adds for one picture.
    pub fn multiply_adds(&self) -> u64 {
        match &self.backbone.body {
            Body::Blocks(blocks) => self.backbone.cut(blocks, self.input_size, self.trained_blocks).0.multiply_adds(),
            Body::SqueezeNet(network) => network.multiply_adds(self.input_size),
            Body::Spliced(spliced) => spliced.multiply_adds(),
        }
    }

    /// Appends it with its weights as constants.
    ///
    /// # Shapes
    /// - `x`: f32 `[N, 3, input_size, input_size]`, normalised
    /// - result: `[N, output…]`
    pub fn append(&self, graph: &mut Builder, x: &Value) -> Value {
        match &self.backbone.body {
            Body::Blocks(blocks) => {
                let (front, _) = self.backbone.cut(blocks, self.input_size, self.trained_blocks);
                front.embed_parameters(graph, &blocks.weights[..front.parameters().len()]);
                front.infer(graph, x)
            }
            Body::SqueezeNet(network) => network.append(graph, x),
            Body::Spliced(spliced) => spliced.append(graph, x),
        }
    }
}

/// The backbones that are installed, each read when it is first asked for.
#[derive(Debug, Default)]
pub struct Backbones {
    paths: BTreeMap<String, Place>,
    open: Mutex<BTreeMap<String, Arc<Backbone>>>,
}

#[derive(Clone, Debug)]
enum Place {
    BuiltIn(&'static BuiltIn, PathBuf),
    Own(PathBuf),
}

impl Backbones {
    /// Those whose files lie in the folder of built-in ones, and a person's own.
    ///
    /// A name that is both is the built-in one.
    pub fn find(built_in: Option<&Path>, own: Option<&Path>) -> Self {
        let mut paths = BTreeMap::new();
        let folders = own.and_then(|own| std::fs::read_dir(own).ok()).into_iter().flatten().flatten();
        for folder in folders.map(|entry| entry.path()) {
            if let Some(name) = folder.file_name().and_then(|name| name.to_str())
                && folder.join(api::backbone::MANIFEST_FILE).is_file()
            {
                paths.insert(name.to_owned(), Place::Own(folder.clone()));
            }
        }
        for known in built_in.map_or(&[][..], |_| &BUILT_IN) {
            let path = built_in.map(|folder| folder.join(known.file)).unwrap_or_default();
            if path.is_file() {
                paths.insert(known.name.to_owned(), Place::BuiltIn(known, path));
            }
        }
        Self { paths, open: Mutex::default() }
    }

    /// Their names, in alphabetical order.
    pub fn names(&self) -> Vec<String> {
        self.paths.keys().cloned().collect()
    }

    /// Whether a person added it.
    pub fn is_own(&self, name: &str) -> bool {
        matches!(self.paths.get(name), Some(Place::Own(_)))
    }

    /// What is known of them without reading their networks. Of a person's own one whose manifest cannot be read it is only
    /// the name: what is wrong with it is said where it is opened.
    pub fn installed(&self) -> Vec<Installed> {
        let of = |(name, place): (&String, &Place)| match place {
            Place::BuiltIn(known, _) => Installed::from(*known),
            Place::Own(folder) => match own::manifest(folder) {
                Ok(manifest) => Installed::from(&manifest),
                Err(_) => Installed { name: name.clone(), sides: Sides::From(1), is_trainable: false },
            },
        };
        self.paths.iter().map(of).collect()
    }

    /// Reads a backbone after comparing its file with its known hash.
    ///
    /// # Errors
    /// `Settings` if there is none of this name; `BackboneFile`, `BackboneDigest`, `BackboneFormat`, `BackboneHdf5`,
    /// `BackboneWeights` or `BackboneGraph` if its file is not what it should be
    pub fn open(&self, name: &str) -> Result<Arc<Backbone>> {
        let mut open = self.open.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(backbone) = open.get(name) {
            return Ok(backbone.clone());
        }
        let backbone = Arc::new(match self.paths.get(name) {
            Some(Place::BuiltIn(known, path)) => built_in(known, path)?,
            Some(Place::Own(folder)) => own::open(folder)?,
            None => {
                let installed = if self.paths.is_empty() { "none".to_owned() } else { self.names().join(", ") };
                let problem = format!("backbone {name} is not installed; installed: {installed}");
                return Err(TrainerError::Settings(vec![problem]));
            }
        });
        open.insert(name.to_owned(), backbone.clone());
        Ok(backbone)
    }
}

fn built_in(known: &BuiltIn, path: &Path) -> Result<Backbone> {
    let bytes = read_checked(path, known.sha256)?;
    let (mean, deviation, body) = match known.name {
        "efficientnet-lite0" => lite(&bytes, efficientnet::LITE0)?,
        "efficientnet-lite1" => lite(&bytes, efficientnet::LITE1)?,
        "efficientnet-lite2" => lite(&bytes, efficientnet::LITE2)?,
        "squeezenet1.1" => {
            let network = squeezenet::read(&hdf5::read(&bytes)?)?;
            (squeezenet::PIXEL_MEAN, squeezenet::PIXEL_DEVIATION, Body::SqueezeNet(Box::new(network)))
        }
        name => return Err(TrainerError::BackboneWeights(format!("nothing reads the weights of {name}"))),
    };
    let identity = Identity { name: known.name.into(), licence: known.licence.into(), sha256: known.sha256.into() };
    Ok(Backbone { identity, mean, deviation: [deviation; 3], body })
}

fn lite(bytes: &[u8], scale: Scale) -> Result<([f32; 3], f32, Body)> {
    let blocks = efficientnet::read(&torch_file::read(bytes)?, scale)?;
    Ok(([efficientnet::PIXEL_MEAN; 3], efficientnet::PIXEL_DEVIATION, Body::Blocks(blocks)))
}

/// The bytes of a file that has this SHA-256.
fn read_checked(path: &Path, expected: &str) -> Result<Vec<u8>> {
    let bytes = std::fs::read(path).map_err(|source| TrainerError::BackboneFile { path: path.to_owned(), source })?;
    let found: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    if found != expected {
        return Err(TrainerError::BackboneDigest { path: path.to_owned(), found, expected: expected.into() });
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_known_files_have_their_architectures_weights() {
        let Some(folder) = crate::testing::backbones() else {
            println!("SKIPPED: no backbone is installed; run `cargo xtask setup`");
            return;
        };
        let installed = Backbones::find(Some(&folder), None);
        assert!(!installed.names().is_empty(), "{} holds no backbone", folder.display());
        for name in installed.names() {
            let backbone = installed.open(&name).expect("the known file");
            // Blocks, weights and millions of multiply-adds at 224 pixels.
            let (blocks, weights, work) = match name.as_str() {
                "efficientnet-lite0" => (16, 3_350_000, 383),
                "efficientnet-lite1" => (21, 4_108_848, 501),
                "efficientnet-lite2" => (21, 4_782_024, 575),
                _ => continue,
            };
            assert_eq!(backbone.installed(), Installed::from(BuiltIn::named(&name).expect("a known one")), "{name}");
            let frozen = |trained_blocks| Frozen { backbone: backbone.clone(), input_size: 224, trained_blocks };
            assert_eq!((backbone.n_blocks(), backbone.n_weights()), (blocks, weights), "{name}");
            assert_eq!(frozen(0).multiply_adds() / 1_000_000, work, "{name}");
            assert_eq!(frozen(0).output(), [1280]);
            let (back, first) = backbone.trained(224, 2).expect("two blocks");
            assert_eq!(frozen(2).output(), back.input());
            assert_eq!(
                back.parameters().iter().map(|p| p.len()).collect::<Vec<_>>(),
                first.iter().map(Vec::len).collect::<Vec<_>>()
            );
        }
    }

    #[test]
    fn a_file_that_is_not_the_known_one_is_refused_by_its_digest() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(folder.path().join(BUILT_IN[0].file), "something else").expect("it is writable");
        let error = Backbones::find(Some(folder.path()), None).open(BUILT_IN[0].name).expect_err("another file");
        assert!(matches!(error, TrainerError::BackboneDigest { .. }), "{error}");
        let error = Backbones::find(None, None).open("mine").expect_err("nothing is there");
        assert!(error.sentence().contains("backbone mine is not installed; installed: none"), "{}", error.sentence());
    }
}
