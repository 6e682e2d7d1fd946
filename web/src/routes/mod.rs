//! All routes of the service, and the description of the REST part.

mod backbones;
mod charts;
mod compare;
mod compare_page;
mod dataset_page;
mod datasets;
mod diagnosis;
mod disk;
mod functions;
mod functions_page;
mod health;
mod models;
mod models_page;
mod original;
mod pages;
mod predict;
mod predictions;
mod run_page;
mod runs;
mod runs_page;

use axum::{
    Json, Router,
    extract::DefaultBodyLimit,
    middleware,
    response::IntoResponse,
    routing::{get, post},
};
use utoipa::OpenApi;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    assets,
    config::Config,
    error::{Result, WebError},
    guard,
    receive::FORM_OVERHEAD_BYTES,
    state::AppState,
};

/// Most of a form that names pictures to be left out.
const REMOVED_BYTES: usize = 16 << 20;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Fovea",
        description = "Upload pictures, train classifiers, classify. Every error is an `ErrorBody`; its code decides the status.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    tags(
        (name = "datasets", description = "Uploads and the datasets that come of them"),
        (name = "runs", description = "Training"),
        (name = "models", description = "The registry"),
        (name = "disk", description = "What everything takes"),
        (name = "functions", description = "What the functions' runtime does"),
        (name = "predict", description = "Classification"),
        (name = "health", description = "Probes"),
        (name = "original", description = "Routes of the system that this one succeeds"),
    )
)]
struct Description;

/// Every route, its checks and its error pages; needs no socket.
pub fn app(state: AppState) -> Router {
    let (described, description) = described(&state.config).split_for_parts();
    let description = std::sync::Arc::new(description);
    let body_limit = body_limit(state.config.predict_limit_bytes);
    let upload_limit = self::body_limit(state.config.upload_limit_bytes);
    described
        .route("/api/openapi.json", get(async move || Json(description.as_ref().clone())))
        .route("/", get(pages::home))
        .route("/training_page", get(pages::train))
        .route("/train", get(pages::train))
        .route("/datasets", post(pages::upload).layer(upload_limit))
        .route("/uploads/{id}", get(pages::upload_state))
        .route("/uploads/{id}/live", get(pages::upload_live))
        .route("/datasets/{id}", get(dataset_page::show))
        .route("/datasets/{id}/train", post(dataset_page::train))
        .route("/datasets/{id}/derive", post(dataset_page::derive).layer(DefaultBodyLimit::max(REMOVED_BYTES)))
        .route("/datasets/{id}/delete", post(dataset_page::delete))
        .route("/datasets/{id}/charts/{file}", get(dataset_page::chart))
        .route("/runs", get(runs_page::list))
        .route("/runs/{id}", get(run_page::show))
        .route("/runs/{id}/live", get(run_page::live))
        .route("/runs/{id}/cancel", post(run_page::cancel))
        .route("/runs/{id}/retry", post(run_page::retry))
        .route("/runs/{id}/label", post(run_page::set_label))
        .route("/runs/{id}/delete", post(run_page::delete))
        .route("/runs/{id}/pictures", get(run_page::pictures))
        .route("/runs/{id}/charts/{file}", get(run_page::chart))
        .route("/compare", get(compare_page::show))
        .route("/compare/charts/{file}", get(compare_page::chart))
        .route("/results_page", get(runs_page::newest))
        .route("/inference_page", get(pages::classify))
        .route("/classify", get(pages::classify))
        .route("/inference_page_2", get(pages::classify).post(pages::classify_form).layer(body_limit))
        .route("/models", get(models_page::models))
        .route("/models/live", get(models_page::live))
        .route("/models/{name}/{version}", get(models_page::card))
        .route("/models/{name}/{version}/delete", post(models_page::delete))
        .route("/disk", get(disk::page))
        .route("/models/{name}/{version}/charts/{file}", get(models_page::chart))
        .route("/models/{name}/current", post(models_page::publish))
        .route("/functions", get(functions_page::functions))
        .route("/functions/live", get(functions_page::live))
        .route("/functions/{namespace}/{name}/traffic", post(functions_page::set_traffic))
        .route("/assets/{name}", get(assets::serve))
        .fallback(nothing_here)
        .layer(middleware::from_fn(guard::check_site))
        .layer(middleware::from_fn_with_state(state.clone(), guard::check_host))
        .layer(middleware::from_fn(guard::render_errors))
        .layer(middleware::from_fn(guard::secure))
        .layer(middleware::from_fn(guard::identify))
        .with_state(state)
}

/// The description of the REST interface.
pub fn openapi() -> utoipa::openapi::OpenApi {
    described_routes(DefaultBodyLimit::disable(), DefaultBodyLimit::disable()).into_openapi()
}

fn described(config: &Config) -> OpenApiRouter<AppState> {
    described_routes(body_limit(config.upload_limit_bytes), body_limit(config.predict_limit_bytes))
}

fn described_routes(uploads: DefaultBodyLimit, pictures: DefaultBodyLimit) -> OpenApiRouter<AppState> {
    let receiving = OpenApiRouter::new()
        .routes(routes!(datasets::upload, datasets::list))
        .routes(routes!(original::process))
        .layer(uploads);
    let classifying =
        OpenApiRouter::new().routes(routes!(predict::predict)).routes(routes!(original::inference)).layer(pictures);
    OpenApiRouter::with_openapi(Description::openapi())
        .merge(receiving)
        .merge(classifying)
        .routes(routes!(datasets::upload_state))
        .routes(routes!(datasets::upload_events))
        .routes(routes!(datasets::show, datasets::delete))
        .routes(routes!(datasets::derive))
        .routes(routes!(datasets::pictures))
        .routes(routes!(datasets::picture))
        .routes(routes!(runs::create, runs::list))
        .routes(routes!(runs::show, runs::label, runs::delete))
        .routes(routes!(runs::retry))
        .routes(routes!(predictions::list))
        .routes(routes!(predictions::suspects))
        .routes(routes!(compare::compare))
        .routes(routes!(runs::events))
        .routes(routes!(runs::results))
        .routes(routes!(runs::cancel))
        .routes(routes!(runs::log))
        .routes(routes!(models::list))
        .routes(routes!(models::show))
        .routes(routes!(models::set_current))
        .routes(routes!(models::version, models::delete))
        .routes(routes!(models::card))
        .routes(routes!(backbones::list))
        .routes(routes!(disk::show))
        .routes(routes!(models::download))
        .routes(routes!(functions::list))
        .routes(routes!(functions::events))
        .routes(routes!(functions::set_traffic))
        .routes(routes!(original::process_model))
        .routes(routes!(original::training_finished))
        .routes(routes!(diagnosis::diagnose))
        .routes(routes!(health::live))
        .routes(routes!(health::ready))
}

fn body_limit(files_bytes: u64) -> DefaultBodyLimit {
    DefaultBodyLimit::max(usize::try_from(files_bytes.saturating_add(FORM_OVERHEAD_BYTES)).unwrap_or(usize::MAX))
}

async fn nothing_here() -> Result<impl IntoResponse> {
    Err::<(), _>(WebError::not_found("there is nothing at this address"))
}
