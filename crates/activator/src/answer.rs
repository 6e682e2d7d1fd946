//! The body a client gets: a fixed text, or what the instance says for as long as it may.

use std::{
    mem,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderMap, header};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep};

use crate::{instance::Instance, meter::Counted, pool::Place, timeouts::Deadlines};

pin_project! {
    /// The body of an answer. The request has its place, and counts, until the body has ended or is dropped.
    ///
    /// When its time is over, the instance's body is dropped, which cancels the request, and the timeout's text is the last
    /// frame. A body of announced length that leaves no room for the text ends without it, short of that length.
    pub struct AnswerBody<I: Instance> {
        #[pin]
        upstream: Option<I::Body>,
        #[pin]
        sleep: Option<Sleep>,
        limit: Option<Limit<I>>,
        text: Bytes,
    }
}

/// What holds and ends the instance's body.
struct Limit<I> {
    deadlines: Deadlines,
    /// What the client is told when its time is over.
    text: &'static str,
    /// Bytes that may still come, where their number was announced.
    left: Option<u64>,
    _place: Place<I>,
    _counted: Counted,
}

type NextFrame<I> = Result<Frame<Bytes>, <<I as Instance>::Body as Body>::Error>;

impl<I: Instance> Limit<I> {
    /// The timeout's text, if there is room for it.
    fn last_word(&self) -> Option<NextFrame<I>> {
        let fits = self.left.is_none_or(|left| self.text.len() as u64 <= left);
        fits.then(|| Ok(Frame::data(Bytes::from_static(self.text.as_bytes()))))
    }
}

impl<I: Instance> AnswerBody<I> {
    pub(crate) fn fixed(text: Bytes) -> Self {
        Self { upstream: None, sleep: None, limit: None, text }
    }

    /// The body of an answer that has just started.
    pub(crate) fn limited(
        upstream: I::Body,
        headers: &HeaderMap,
        mut deadlines: Deadlines,
        text: &'static str,
        place: Place<I>,
        counted: Counted,
    ) -> Self {
        if upstream.is_end_stream() {
            return Self::fixed(Bytes::new());
        }
        deadlines.written(Instant::now());
        let announced = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        let left = announced.or_else(|| upstream.size_hint().exact());
        let limit = Limit { deadlines, text, left, _place: place, _counted: counted };
        Self { upstream: Some(upstream), sleep: None, limit: Some(limit), text: Bytes::new() }
    }
}

impl<I: Instance> AnswerBody<I> {
    /// The next frame, and whether the body has ended with it.
    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<(Option<NextFrame<I>>, bool)> {
        let mut this = self.project();
        let (Some(mut upstream), Some(limit)) = (this.upstream.as_mut().as_pin_mut(), this.limit.as_mut()) else {
            let text = mem::take(this.text);
            return Poll::Ready(((!text.is_empty()).then(|| Ok(Frame::data(text))), true));
        };
        match upstream.as_mut().poll_frame(context) {
            Poll::Ready(Some(Ok(frame))) => {
                let (now, ended) = (Instant::now(), upstream.is_end_stream());
                // The last frame passes: a buffered answer was complete when it started.
                if !ended && limit.deadlines.expired(now) {
                    return Poll::Ready((limit.last_word(), true));
                }
                limit.deadlines.written(now);
                if let (Some(left), Some(data)) = (&mut limit.left, frame.data_ref()) {
                    *left = left.saturating_sub(data.len() as u64);
                }
                Poll::Ready((Some(Ok(frame)), ended))
            }
            Poll::Ready(end) => Poll::Ready((end, true)),
            Poll::Pending => limit.deadlines.poll_expired(this.sleep, context).map(|()| (limit.last_word(), true)),
        }
    }
}

impl<I: Instance> Body for AnswerBody<I> {
    type Data = Bytes;
    type Error = <I::Body as Body>::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<NextFrame<I>>> {
        let (frame, ended) = ready!(self.as_mut().poll_next(context));
        if ended {
            let mut this = self.project();
            this.upstream.set(None);
            this.sleep.set(None);
            *this.limit = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.upstream.is_none() && self.text.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        let Some(upstream) = &self.upstream else { return SizeHint::with_exact(self.text.len() as u64) };
        let hint = upstream.size_hint();
        if hint.exact().is_some() {
            return hint;
        }
        // No upper bound: the timeout's text may come on top.
        let mut lower_only = SizeHint::new();
        lower_only.set_lower(hint.lower());
        lower_only
    }
}
