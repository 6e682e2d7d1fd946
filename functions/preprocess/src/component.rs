//! The WASI 0.3 component around [`crate::answer`]: collects the body, answers.

use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use spin_sdk::{
    http::{FullBody, Request, Response},
    http_service,
};

use crate::{MAX_BODY_BYTES, answer, refuse_broken_body, refuse_long_body};

#[http_service]
async fn handle(request: Request) -> Response<FullBody<Bytes>> {
    let (head, body) = request.into_parts();
    let response = match Limited::new(body, MAX_BODY_BYTES).collect().await {
        Ok(body) => answer(http::Request::from_parts(head, body.to_bytes())),
        Err(e) if e.is::<LengthLimitError>() => refuse_long_body(),
        Err(_) => refuse_broken_body(),
    };
    response.map(FullBody::new)
}
