//! The page of the functions: gathers what its template shows, translates its form.

use api::functions::Status;
use axum::{
    Form,
    extract::{Path, State},
    response::{Html, IntoResponse, Redirect, Response},
};
use http::StatusCode;

use crate::{
    error::{Result, WebError, chain},
    form::Typed,
    pages::{self, FunctionView, page},
    split::{self, Split},
    state::AppState,
};

/// `GET /functions`.
pub async fn functions(State(state): State<AppState>) -> Result<Html<String>> {
    let (functions, problem) = look(&state).await;
    page(&pages::Functions { nav: "functions", is_live: state.functions.is_known(), functions, problem })
}

/// `GET /functions/live`: the part of the page that changes.
pub async fn live(State(state): State<AppState>) -> Result<Html<String>> {
    let (functions, problem) = look(&state).await;
    page(&pages::FunctionsLive { functions, problem })
}

/// What there is to show, or why there is nothing.
async fn look(state: &AppState) -> (Vec<FunctionView>, Option<String>) {
    match state.functions.status().await {
        Ok(status) => (views(status), None),
        Err(error) => {
            tracing::debug!(error = chain(&error), "the runtime was not asked");
            (vec![], Some(error.detail().message))
        }
    }
}

fn views(status: Status) -> Vec<FunctionView> {
    status.services.into_iter().map(FunctionView::of).collect()
}

/// `POST /functions/{namespace}/{name}/traffic`: a percentage per field, or `all` for one of them.
pub async fn set_traffic(
    State(state): State<AppState>,
    Path((namespace, name)): Path<(String, String)>,
    Form(typed): Form<Typed>,
) -> Result<Response> {
    let mut functions = views(state.functions.status().await?);
    let function = functions.iter_mut().find(|f| f.service.namespace == namespace && f.service.name == name);
    let function = function.ok_or_else(|| WebError::not_found(format!("there is no function {namespace}/{name}")))?;
    let (status, wrong) = match split::parse(&function.service, &typed) {
        Ok(targets) => match state.functions.set_traffic(&namespace, &name, &targets).await {
            Ok(_) => return Ok(Redirect::to(&format!("/functions#{}", function.id())).into_response()),
            Err(error) => {
                let detail = error.detail();
                tracing::warn!(error = chain(&error), "traffic stays as it is");
                let status = StatusCode::from_u16(detail.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
                (status, detail.message)
            }
        },
        Err(wrong) => (StatusCode::UNPROCESSABLE_ENTITY, wrong),
    };
    function.split = Split::refused(&function.service, &typed, wrong);
    let html = page(&pages::Functions { nav: "functions", is_live: true, functions, problem: None })?;
    Ok((status, html).into_response())
}
