//! Messages as frames: a length of four bytes, big-endian, and that many bytes of JSON.

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the connection ended")]
    Ended,
    #[error("the connection broke")]
    Broken(#[source] std::io::Error),
    #[error("a frame of {bytes} bytes is longer than {limit}")]
    TooLong { bytes: usize, limit: usize },
    #[error("a frame is no message")]
    NoMessage(#[source] serde_json::Error),
}

/// Not to be given up half way: the rest would be read as the next frame.
pub async fn read<Message: DeserializeOwned>(
    from: &mut (impl AsyncRead + Unpin),
    limit: usize,
) -> Result<Message, Error> {
    let mut length = [0; 4];
    from.read_exact(&mut length).await.map_err(broken)?;
    let bytes = u32::from_be_bytes(length) as usize;
    if bytes > limit {
        return Err(Error::TooLong { bytes, limit });
    }
    // As it comes: a length alone must not make anybody reserve that much.
    let mut frame = Vec::new();
    from.take(bytes as u64).read_to_end(&mut frame).await.map_err(Error::Broken)?;
    if frame.len() < bytes {
        return Err(Error::Ended);
    }
    serde_json::from_slice(&frame).map_err(Error::NoMessage)
}

pub async fn write(to: &mut (impl AsyncWrite + Unpin), message: &impl Serialize) -> Result<(), Error> {
    let mut frame = vec![0; 4];
    serde_json::to_writer(&mut frame, message).map_err(Error::NoMessage)?;
    let bytes = frame.len() - 4;
    let length = u32::try_from(bytes).map_err(|_| Error::TooLong { bytes, limit: u32::MAX as usize })?;
    frame[..4].copy_from_slice(&length.to_be_bytes());
    to.write_all(&frame).await.map_err(Error::Broken)?;
    to.flush().await.map_err(Error::Broken)
}

fn broken(error: std::io::Error) -> Error {
    if error.kind() == std::io::ErrorKind::UnexpectedEof { Error::Ended } else { Error::Broken(error) }
}
