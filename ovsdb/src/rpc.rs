//! JSON-RPC 1.0 on a byte stream.
//!
//! There is no framing: messages follow each other, with or without white space, several in one read or one over
//! many. [`Decoder`] finds where each ends and refuses what is too long, too deep or too rich **before** it is parsed.
//!
//! Source: RFC 7047, section 4; JSON-RPC 1.0.

use bytes::{Buf, BytesMut};
use serde_json::{Map, Value as Json, json};

use crate::error::ProtocolError;

/// What one message may be at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MessageLimits {
    /// Units: bytes, from the first brace to the last.
    pub bytes: usize,
    /// Nested objects and arrays. Above 127 serde_json's own limit comes first.
    pub depth: usize,
    /// Members of objects and arrays in all, an object counted sixteen times: a value takes far more memory than the
    /// two bytes that can ask for it.
    pub values: usize,
}

/// What an object counts towards [`MessageLimits::values`]: its first member allocates a node with room for eleven,
/// about 600 bytes, where a plain value takes 32.
const OBJECT: usize = 16;

/// Cuts a stream of bytes into JSON objects.
///
/// After an error it stays where it is: close the connection.
#[derive(Debug)]
pub struct Decoder {
    limits: MessageLimits,
    buffer: BytesMut,
    /// Bytes at the start of `buffer` that were looked at.
    scanned: usize,
    depth: usize,
    values: usize,
    in_string: bool,
    escaped: bool,
}

impl Decoder {
    /// A decoder with nothing in it.
    pub fn new(limits: MessageLimits) -> Self {
        Self {
            limits,
            buffer: BytesMut::new(),
            scanned: 0,
            depth: 0,
            values: 0,
            in_string: false,
            escaped: false,
        }
    }

    /// Where received bytes go: append only, and call [`Decoder::next_object`] until it gives `None` after each read.
    pub fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// The next complete object; `None` if more bytes are needed.
    ///
    /// Errors: all of [`DecodeError`] but [`DecodeError::Truncated`].
    pub fn next_object(&mut self) -> Result<Option<Json>, DecodeError> {
        if self.scanned == 0 && !self.begin()? {
            return Ok(None);
        }
        let Some(end) = self.scan()? else {
            return Ok(None);
        };
        let message = self.buffer.split_to(end);
        (self.scanned, self.values) = (0, 0);
        serde_json::from_slice(&message).map(Some).map_err(|source| DecodeError::Syntax { source })
    }

    /// To be called when the stream ended.
    ///
    /// Errors: [`DecodeError::Truncated`] if that was within an object.
    pub fn finish(&self) -> Result<(), DecodeError> {
        match self.buffer.iter().filter(|byte| !byte.is_ascii_whitespace()).count() {
            0 => Ok(()),
            _ => Err(DecodeError::Truncated { received: self.buffer.len() }),
        }
    }

    /// Skips white space; true at the start of an object.
    fn begin(&mut self) -> Result<bool, DecodeError> {
        let blank = self.buffer.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
        self.buffer.advance(blank);
        match self.buffer.first() {
            None => Ok(false),
            Some(b'{') => Ok(true),
            Some(&byte) => Err(DecodeError::NoObject { byte }),
        }
    }

    /// Looks at the bytes not looked at before; gives the length of a complete object.
    fn scan(&mut self) -> Result<Option<usize>, DecodeError> {
        for &byte in self.buffer.iter().skip(self.scanned) {
            self.scanned += 1;
            if self.scanned > self.limits.bytes {
                return Err(DecodeError::TooLong { limit: self.limits.bytes });
            }
            if self.in_string {
                match byte {
                    _ if self.escaped => self.escaped = false,
                    b'\\' => self.escaped = true,
                    b'"' => self.in_string = false,
                    _ => {}
                }
                continue;
            }
            match byte {
                b'"' => self.in_string = true,
                b'{' | b'[' => {
                    self.depth += 1;
                    self.values += if byte == b'{' { OBJECT } else { 1 };
                    if self.depth > self.limits.depth {
                        return Err(DecodeError::TooDeep { limit: self.limits.depth });
                    }
                }
                b',' => self.values += 1,
                b'}' | b']' => {
                    // whether it closes what was opened is for the parser to say
                    self.depth = self.depth.saturating_sub(1);
                    if self.depth == 0 {
                        return Ok(Some(self.scanned));
                    }
                }
                _ => {}
            }
            if self.values > self.limits.values {
                return Err(DecodeError::TooManyValues { limit: self.limits.values });
            }
        }
        Ok(None)
    }
}

/// Bytes that are no acceptable message.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// A message is longer than the limit.
    #[error("message of more than {limit} bytes")]
    TooLong {
        /// Units: bytes.
        limit: usize,
    },
    /// A message nests deeper than the limit.
    #[error("message nested deeper than {limit}")]
    TooDeep {
        /// Objects and arrays within each other.
        limit: usize,
    },
    /// A message has more members than the limit.
    #[error("message with more than {limit} values")]
    TooManyValues {
        /// Members of objects and arrays.
        limit: usize,
    },
    /// Something else than an object begins.
    #[error("message begins with byte {byte:#04x} where an object is due")]
    NoObject {
        /// The byte found.
        byte: u8,
    },
    /// The object is no JSON.
    #[error("malformed JSON")]
    Syntax {
        /// Where and why.
        source: serde_json::Error,
    },
    /// The stream ended within an object.
    #[error("connection closed after {received} bytes of a message")]
    Truncated {
        /// Units: bytes.
        received: usize,
    },
}

/// A message.
#[derive(Debug, Clone, PartialEq)]
pub enum Message {
    /// Asks for a response with the same id.
    Request {
        /// The method.
        method: String,
        /// Its parameters.
        params: Json,
        /// Any JSON but null.
        id: Json,
    },
    /// Asks for nothing.
    Notification {
        /// The method.
        method: String,
        /// Its parameters.
        params: Json,
    },
    /// Answers a request.
    Response {
        /// That of the request.
        id: Json,
        /// The result, or the error where it is not null.
        result: Result<Json, Json>,
    },
}

impl Message {
    /// Reads a message.
    ///
    /// Errors: [`ProtocolError::Message`] for an object that is none of the three kinds.
    pub fn parse(json: Json) -> Result<Self, ProtocolError> {
        let Json::Object(mut object) = json else {
            return Err(ProtocolError::Message("no object"));
        };
        let id = object.remove("id").unwrap_or_default();
        match (object.remove("method"), id) {
            (Some(Json::String(method)), id) => {
                let params = object.remove("params").unwrap_or_default();
                if !params.is_array() {
                    return Err(ProtocolError::Message("params that are no array"));
                }
                Ok(match id {
                    Json::Null => Self::Notification { method, params },
                    id => Self::Request { method, params, id },
                })
            }
            (Some(_), _) => Err(ProtocolError::Message("a method that is no string")),
            (None, Json::Null) => Err(ProtocolError::Message("neither method nor id")),
            (None, id) => Self::response(id, object),
        }
    }

    fn response(id: Json, mut object: Map<String, Json>) -> Result<Self, ProtocolError> {
        match (object.remove("result"), object.remove("error")) {
            (_, Some(error)) if !error.is_null() => Ok(Self::Response { id, result: Err(error) }),
            (Some(result), _) => Ok(Self::Response { id, result: Ok(result) }),
            (None, _) => Err(ProtocolError::Message("neither result nor error")),
        }
    }

    /// As it goes to the server.
    pub fn to_json(&self) -> Json {
        match self {
            Self::Request { method, params, id } => {
                json!({"method": method, "params": params, "id": id})
            }
            Self::Notification { method, params } => {
                json!({"method": method, "params": params, "id": null})
            }
            Self::Response { id, result: Ok(result) } => {
                json!({"id": id, "result": result, "error": null})
            }
            Self::Response { id, result: Err(error) } => {
                json!({"id": id, "result": null, "error": error})
            }
        }
    }
}

#[cfg(test)]
mod tests;
