//! What is mapped now: revisions of the same artefact share its code.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use crate::{bake::Digest, sandbox::Code};

/// Where an artefact's code is found as long as anybody uses it. Whoever maps it holds the lock meanwhile.
type Place = Arc<tokio::sync::Mutex<Weak<Code>>>;

/// The code of each artefact that is in use.
#[derive(Default)]
pub(crate) struct Mapped(Mutex<HashMap<Digest, Place>>);

impl Mapped {
    /// The artefact's place.
    pub(crate) fn place(&self, artefact: &Digest) -> Place {
        let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        places.retain(|_, place| Arc::strong_count(place) > 1 || in_use(place));
        Arc::clone(places.entry(*artefact).or_default())
    }
}

fn in_use(place: &Place) -> bool {
    place.try_lock().is_ok_and(|code| code.strong_count() > 0)
}
