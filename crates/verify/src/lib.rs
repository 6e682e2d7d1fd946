//! Verifies Fovea in a real cluster: installs the manifests into a namespace of the run's own, has wrong ones refused,
//! trains by a Job, predicts through the gateway, scales to zero and back, splits requests between versions, and removes
//! what it made.
//!
//! [`verify`] takes the steps in order ([`report::STEPS`]); each is a file of its own. Nothing outside the run's namespace is
//! changed, settings of the cluster included. A step that fails tells what was to be seen at that moment ([`evidence`]), for
//! it is gone afterwards. How many pods a function should have is Knative's matter; that there are none, one or several is
//! all that is looked at.

pub mod api_server;
pub mod dataset;
pub mod evidence;
pub mod failure;
pub mod gateway;
pub mod install;
pub mod kubectl;
pub mod manifests;
pub mod namespace;
pub mod options;
pub mod pods;
pub mod preconditions;
pub mod refusals;
pub mod registry;
pub mod report;
pub mod run;
pub mod scaling;
pub mod serving;
pub mod statistics;
pub mod training;
pub mod volumes;
pub mod wait;
pub mod web;

use std::{cell::Cell, future::Future, pin::pin};

use crate::{
    api_server::ApiServer,
    failure::{Failure, Result},
    manifests::{Changes, Manifests},
    report::{Book, CLEAN_UP, Held, NAMESPACE, Outcome, PRECONDITIONS, Report},
    run::Run,
    web::Web,
};

/// Takes all steps, or those that can be taken until the second future is there; then removes what was made.
pub async fn verify(run: &Run, interrupted: impl Future<Output = ()>) -> Report {
    let mut book = Book::new(&run.teller);
    let was_interrupted = {
        let steps = pin!(steps(run, &mut book));
        tokio::select! {
            _ = steps => false,
            () = interrupted => true,
        }
    };
    book.close(was_interrupted);
    if book.outcome(PRECONDITIONS) == Some(Outcome::Held) {
        clean_up(run, &mut book).await;
    } else {
        book.skip(CLEAN_UP, "nothing was made");
    }
    book.report(&run.id, run.namespace())
}

async fn clean_up(run: &Run, book: &mut Book<'_>) {
    if run.options.keep && book.outcome(NAMESPACE) == Some(Outcome::Held) {
        let delete = run.kubectl.shown(&format!("delete namespace {}", run.namespace()));
        book.skip(CLEAN_UP, format!("everything is kept; remove it with {delete}"));
    } else {
        book.step(CLEAN_UP, namespace::remove(run), async { Failure::default() }).await;
    }
}

/// `None` where a step that others need has failed.
async fn steps(run: &Run, book: &mut Book<'_>) -> Option<()> {
    let nothing = async || Failure::default();
    let see = || evidence::gather(run);
    let manifests = book.step(PRECONDITIONS, prepare(run), nothing()).await?;
    book.step(NAMESPACE, namespace::create(run, &manifests.namespace), nothing()).await?;
    // What others do not need may fail by itself.
    book.step("bad manifests", refusals::check(run, &manifests), nothing()).await;
    book.step("manifests", install::apply(run, &manifests), see()).await?;
    book.step("ready", install::ready(run), see()).await?;
    let is_cut_off = Cell::new(false);
    book.step("doctor", install::doctor(run, &is_cut_off), see()).await;
    if is_cut_off.get() {
        // No Job would ever be made.
        return None;
    }
    let web = Web::new(run);
    let dataset = book.step("data set", training::upload(run, &web), see()).await?;
    let first = book.step("training", training::train(run, &web, &dataset, 1), see()).await?;
    let url = book.step("serving", serving::first(run, &web, first), see()).await?;
    let gateway = book.step("prediction", serving::predict(run, &url, first), see()).await?;
    match book.step("to zero", scaling::to_zero(run), see()).await {
        Some(()) => {
            book.step("cold request", scaling::cold_request(run, &gateway), see()).await;
        }
        None => book.skip("cold request", "not tried, for pods are left"),
    }
    book.step("burst", scaling::burst(run, &gateway), see()).await;
    let second = book.step("second version", training::train(run, &web, &dataset, 2), see()).await?;
    book.step("canary", serving::canary(run, &web, &gateway, first, second), see()).await?;
    book.step("promotion", serving::give_all(run, &web, &gateway, second), see()).await?;
    book.step("roll back", serving::give_all(run, &web, &gateway, first), see()).await?;
    book.step("to zero again", scaling::to_zero(run), see()).await
}

/// Looks whether the cluster can take the manifests, and fits them to it.
async fn prepare(run: &Run) -> Result<(Manifests, Held)> {
    let (access_mode, held) = preconditions::check(run).await?;
    let api_server = ApiServer::look(run).await;
    let changes = Changes {
        run: &run.id,
        namespace: run.namespace(),
        install: &run.options.install,
        access_mode,
        api_server: &api_server,
    };
    let mut manifests = Manifests::new(run.rendered.clone(), &changes)?;
    registry::pin(run, &mut manifests).await?;
    Ok((manifests, held))
}
