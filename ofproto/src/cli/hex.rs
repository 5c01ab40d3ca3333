//! Bytes in hex.

use bytes::Bytes;

/// Text that is not bytes in hex.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HexError {
    /// A character that is no digit.
    #[error("{character:?} at character {at} is no hex digit")]
    Digit {
        /// The character.
        character: char,
        /// Where it is, from 1.
        at: usize,
    },
    /// Half a byte.
    #[error("odd number of hex digits ({digits})")]
    Odd {
        /// How many.
        digits: usize,
    },
}

/// Reads hex. White space may stand between digits, 0x before a group of them.
pub(crate) fn decode(text: &str) -> Result<Bytes, HexError> {
    let mut bytes = Vec::with_capacity(text.len() / 2);
    let (mut digits, mut high) = (0_usize, 0_u8);
    let mut start = true;
    let mut rest = text.chars().enumerate().peekable();
    while let Some((at, character)) = rest.next() {
        if character.is_ascii_whitespace() {
            start = true;
            continue;
        }
        let prefix = start && character == '0';
        start = false;
        if prefix && rest.next_if(|(_, c)| matches!(c, 'x' | 'X')).is_some() {
            continue;
        }
        let digit = character.to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let Some(digit) = digit else {
            return Err(HexError::Digit { character, at: at + 1 });
        };
        if digits.is_multiple_of(2) {
            high = digit << 4
        } else {
            bytes.push(high | digit)
        }
        digits += 1;
    }
    if digits.is_multiple_of(2) { Ok(bytes.into()) } else { Err(HexError::Odd { digits }) }
}

/// Writes hex in lower case.
pub(crate) fn encode(bytes: &[u8]) -> String {
    const DIGITS: [char; 16] =
        ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
    let digit = |n: u8| DIGITS.get(usize::from(n & 0xf)).copied().unwrap_or_default();
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(*byte)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spaces_and_prefixes() {
        let bytes = Bytes::from_static(&[0x04, 0x00, 0xab]);
        for text in ["0400ab", "04 00 AB", "0x0400ab", "0x04 0x00 0xab", " 04\t00ab ", "0x04 00 ab"]
        {
            assert_eq!(decode(text), Ok(bytes.clone()), "{text}");
        }
        assert_eq!(encode(&bytes), "0400ab");
        assert_eq!(decode(""), Ok(Bytes::new()));
        assert_eq!(decode("04 0"), Err(HexError::Odd { digits: 3 }));
        assert_eq!(decode("04 0g"), Err(HexError::Digit { character: 'g', at: 5 }));
        assert_eq!(decode("040x00"), Err(HexError::Digit { character: 'x', at: 4 }));
    }
}
