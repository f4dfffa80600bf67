//! What a response's body is here: bytes that are known, or lines that come as things happen.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::sync::mpsc;

pub enum Content {
    Whole(Option<Bytes>),
    /// To the sender's end.
    Lines(mpsc::Receiver<Bytes>),
}

impl Content {
    pub fn text(text: impl Into<String>) -> Content {
        Content::from(text.into().into_bytes())
    }

    pub fn nothing() -> Content {
        Content::Whole(None)
    }
}

impl From<Vec<u8>> for Content {
    fn from(bytes: Vec<u8>) -> Self {
        Content::Whole(Some(Bytes::from(bytes)))
    }
}

impl Body for Content {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let frame = |bytes: Option<Bytes>| bytes.map(|bytes| Ok(Frame::data(bytes)));
        match self.get_mut() {
            Content::Whole(bytes) => Poll::Ready(frame(bytes.take())),
            Content::Lines(lines) => lines.poll_recv(context).map(frame),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Content::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Content::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Content::Lines(_) => SizeHint::default(),
        }
    }
}
