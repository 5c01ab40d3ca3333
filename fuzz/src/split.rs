//! Cuts a stream as a socket might.

/// Bytes at the front of an input that say how the rest is cut.
const SIZES: usize = 4;

/// The stream, and the sizes of the pieces it comes in, used over and over. Units: bytes, 1 to 256.
pub(crate) fn split(data: &[u8]) -> ([usize; SIZES], &[u8]) {
    match data.split_first_chunk::<SIZES>() {
        Some((sizes, stream)) => (sizes.map(|size| usize::from(size) + 1), stream),
        None => ([1; SIZES], &[]),
    }
}

/// The pieces of a stream.
pub(crate) fn pieces<'a>(sizes: &[usize], stream: &'a [u8]) -> Vec<&'a [u8]> {
    let (mut out, mut rest) = (Vec::new(), stream);
    for size in sizes.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (piece, tail) = rest.split_at((*size).clamp(1, rest.len()));
        out.push(piece);
        rest = tail;
    }
    out
}
