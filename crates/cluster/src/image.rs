//! Baking a function that serves no model: its image is all that it is made of. A Job does it, once for each image, so
//! that pods map an artefact and compile nothing.

use std::sync::{Mutex, PoisonError};

use crate::{
    Cluster,
    error::Result,
    functions::Functions,
    jobs::Jobs,
    knative::MODEL_VARIABLE,
    names,
    publish::WORDING,
    template::{BAKE, Particulars, Template},
};

/// Bakes the images of one function of a cluster.
#[derive(Debug)]
pub struct ImageBaker {
    cluster: Cluster,
    functions: Functions,
    jobs: Jobs,
    function: String,
    /// The image that was last seen to.
    seen_to: Mutex<Option<String>>,
}

impl ImageBaker {
    /// Asks the cluster nothing yet.
    pub fn new(cluster: Cluster, function: &str) -> Self {
        Self {
            functions: Functions::new(cluster.clone()),
            jobs: Jobs::new(cluster.clone(), names::BAKE_IMAGE, WORDING),
            function: function.to_owned(),
            seen_to: Mutex::default(),
            cluster,
        }
    }

    /// Has the image that the function's template names baked, unless this was done; whether there is a new Job for it.
    /// Nothing is done for a function that serves a model: it is baked with it.
    ///
    /// # Errors
    /// If the cluster refuses
    pub async fn step(&self) -> Result<bool> {
        let look = self.functions.look_now(&self.function).await?;
        let pod = &look.service.spec.template.spec;
        let (Some(image), None) = (pod.image(), pod.model_path()) else { return Ok(false) };
        if self.seen_to().as_deref() == Some(image) {
            return Ok(false);
        }
        let particulars = Particulars {
            name: names::bake_image_job(&self.function, image),
            component: names::BAKE_IMAGE,
            annotations: vec![],
            arguments: vec![],
            environment: vec![(MODEL_VARIABLE, None)],
            image: Some(image),
        };
        let job = Template::read(&self.cluster, BAKE).await?.complete(&self.cluster, particulars);
        let created = self.jobs.create(&job).await?;
        *self.seen_to.lock().unwrap_or_else(PoisonError::into_inner) = Some(image.to_owned());
        Ok(created)
    }

    fn seen_to(&self) -> Option<String> {
        self.seen_to.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
