//! A version of a model within this process: the very pixels and the very network that the function uses, on all cores.

use std::num::NonZeroUsize;

use anyhow::{Context, Result};
use api::{ErrorCode, ErrorDetail, model::ModelManifest};
use predictor::{Answer, Predictor};
use rayon::iter::{IntoParallelIterator, ParallelIterator};
use store::ModelVersion;

use crate::bar::Bar;

/// A loaded version, and threads to use it on.
pub struct Classifier {
    predictor: Predictor,
    limits: imaging::Limits,
    threads: rayon::ThreadPool,
}

impl Classifier {
    /// Reads the version's network and compares it with its digest.
    ///
    /// `threads` bounds how many pictures are in memory at once; as many as there are cores when absent.
    pub fn load(version: &ModelVersion, threads: Option<NonZeroUsize>) -> Result<Self> {
        let predictor = Predictor::load(&version.dir)
            .with_context(|| format!("cannot load {} v{}", version.manifest.name, version.manifest.version))?;
        let threads = rayon::ThreadPoolBuilder::new()
            .num_threads(threads.map_or(0, NonZeroUsize::get))
            .build()
            .context("cannot start threads")?;
        Ok(Self { predictor, limits: imaging::Limits::default(), threads })
    }

    /// What the version is.
    pub fn manifest(&self) -> &ModelManifest {
        self.predictor.manifest()
    }

    /// What the network says about a picture file.
    ///
    /// # Errors
    /// As the inference function tells them: the picture's fault, or the network's
    pub fn file(&self, bytes: &[u8], top_k: usize) -> Result<Answer, ErrorDetail> {
        let picture = imaging::process(bytes, &self.manifest().preprocess, &self.limits).map_err(|e| e.detail())?;
        self.pixels(&picture.pixels, top_k)
    }

    /// What the network says about pixels that are processed already.
    pub fn pixels(&self, pixels: &[u8], top_k: usize) -> Result<Answer, ErrorDetail> {
        let answer = self.predictor.predict(pixels, top_k);
        answer
            .map_err(|error| ErrorDetail::new(ErrorCode::Internal, format!("the model fails on this picture: {error}")))
    }

    /// Does the same work for each of `n` things, several at once; the results stand in order.
    pub fn each<T: Send>(&self, n: usize, bar: &Bar, work: impl Fn(usize) -> T + Sync) -> Vec<T> {
        let one = |index| {
            let done = work(index);
            bar.step();
            done
        };
        self.threads.install(|| (0..n).into_par_iter().map(one).collect())
    }
}
