//! The WASI 0.3 component around [`Function`]: collects the body, answers.

use std::{path::PathBuf, sync::LazyLock};

use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use spin_sdk::{
    http::{FullBody, Request, Response},
    http_service,
};

use crate::{Function, MAX_BODY_BYTES};

/// Where the host mounts the model version to serve, read-only.
const MODEL_DIR: &str = "/model";

static FUNCTION: LazyLock<Function> = LazyLock::new(|| Function::new(PathBuf::from(MODEL_DIR)));

#[http_service]
async fn handle(request: Request) -> Response<FullBody<Bytes>> {
    let (head, body) = request.into_parts();
    let answer = match Limited::new(body, MAX_BODY_BYTES).collect().await {
        Ok(body) => FUNCTION.answer(&http::Request::from_parts(head, body.to_bytes())),
        Err(e) if e.is::<LengthLimitError>() => Function::refuse_long_body(),
        Err(e) => Function::refuse_broken_body(&*e),
    };
    answer.map(FullBody::new)
}
