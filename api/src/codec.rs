//! How messages go into buffers and come out of them.
//!
//! Two buffers live as long as a stream, one for each direction. A controller has a thousand streams, nearly all of
//! them idle at any time, so that what these begin with counts: 8 KiB each unless one says otherwise.

use std::marker::PhantomData;

use prost::Message;
use tonic::Status;
use tonic::codec::{BufferSettings, Codec, EncodeBuf, Encoder};
use tonic_prost::{ProstCodec, ProstDecoder};

/// What a stream's buffer begins with; it grows with the first message that needs more. A report of an agent without news
/// and a small change fit. Units: bytes.
const BUFFER: usize = 256;

/// At which size what was encoded is handed on while more is waiting. Units: bytes.
const HAND_ON: usize = 32 << 10;

fn settings() -> BufferSettings {
    BufferSettings::new(BUFFER, HAND_ON)
}

/// Protocol buffers, by `prost`, in buffers as large as they have to be.
#[derive(Clone, Debug)]
pub struct Fitted<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for Fitted<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> Codec for Fitted<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = FittedEncoder<T>;
    type Decoder = ProstDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        FittedEncoder(PhantomData)
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstCodec::<T, U>::raw_decoder(settings())
    }
}

/// Makes room once for the whole of a message, however many parts it has.
#[derive(Clone, Debug)]
pub struct FittedEncoder<T>(PhantomData<T>);

impl<T: Message> Encoder for FittedEncoder<T> {
    type Item = T;
    type Error = Status;

    fn encode(&mut self, item: T, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.reserve(item.encoded_len());
        item.encode(to).map_err(|error| Status::internal(error.to_string()))
    }

    fn buffer_settings(&self) -> BufferSettings {
        settings()
    }
}
