//! Container mode: one function at one port, by Knative's runtime contract. Whoever runs the container holds requests,
//! limits how many there are at once, probes and scales; here they are only answered.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use http::{Request, Response};
use hyper::body::Incoming;
use tokio::{
    net::TcpListener,
    time::{Instant, timeout},
};

use crate::{
    Drained, Isolation, Runtime, RuntimeError,
    bake::Recipe,
    failure::Failure,
    instance::Instance,
    intake::Intake,
    server::{self, Body, Handle, full},
    timing::Times,
};

/// What a container serves.
#[derive(Clone, Debug)]
pub struct ContainerSettings {
    /// The component and what it may see and use.
    pub recipe: Recipe,
    /// What a sandbox is shared by.
    pub isolation: Isolation,
    /// From a request's arrival to its answer.
    pub timeout: Duration,
    /// Request body.
    pub max_body_bytes: usize,
}

/// A function that is ready to be served: its artefact is mapped.
pub struct Container {
    revision: Arc<str>,
    instance: Arc<Instance>,
    intake: Intake,
    timeout: Duration,
}

impl Container {
    /// Maps the function's artefact, baking it if there is none, and starts a sandbox to see that it comes to life.
    ///
    /// # Errors
    /// As far as it gets: `ReadComponent`, `Mount`, `Compile`, `Bake`, `Link`, `Cache`, `Instantiate`
    pub async fn load(runtime: &Runtime, settings: ContainerSettings) -> Result<Self, RuntimeError> {
        let ContainerSettings { recipe, isolation, timeout, max_body_bytes } = settings;
        let revision = Arc::clone(&recipe.confines.name);
        let (blueprint, _) = runtime.prepare(recipe).await?;
        let instance = Arc::new(Instance::new(blueprint, Arc::clone(&runtime.compute), isolation, timeout));
        instance
            .start_one()
            .await
            .map_err(|failure| RuntimeError::Instantiate { function: revision.to_string(), source: failure.into() })?;
        Ok(Self { revision, instance, intake: Intake::new(max_body_bytes, timeout), timeout })
    }

    /// Serves HTTP/1.1 and HTTP/2 until `shutdown` is ready; then accepts no more and gives the requests in flight
    /// until `drain` has passed.
    pub async fn serve(self, listener: TcpListener, shutdown: impl Future<Output = ()>, drain: Duration) -> Drained {
        server::serve(Arc::new(self), listener, shutdown, drain).await
    }
}

impl Handle for Container {
    async fn handle(&self, request: Request<Incoming>, _: SocketAddr, _: bool) -> Response<Body> {
        let arrived = Instant::now();
        let mut times = Times::default();
        let answer = timeout(self.timeout, async {
            let (head, body) = request.into_parts();
            let (body, _share) = self.intake.read(body).await?;
            times.queue = arrived.elapsed();
            Ok::<_, Failure>(self.instance.answer(Request::from_parts(head, body)).await)
        });
        let mut response = match answer.await {
            Ok(Ok(response)) => response,
            Ok(Err(failure)) => failure.response(),
            Err(_) => Failure::Timeout { limit: self.timeout }.response(),
        };
        times.end(arrived, &self.revision, &mut response);
        response.map(full)
    }
}
