//! What fuzzing found, each in its smallest form.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use bytes::{BufMut, Bytes, BytesMut};
use rust_openflow::Message;

/// A flow mod with these fields and actions, encoded again.
fn reencoded(fields: &[u8], actions: &[u8]) -> (Bytes, Bytes) {
    let mut frame = BytesMut::from(&[4, 14, 0, 0, 0, 0, 0, 1][..]);
    frame.put_bytes(0, 22);
    frame.put_slice(&[0x80, 0]);
    frame.put_bytes(0xff, 12);
    frame.put_bytes(0, 4);
    let length = fields.len() + 4;
    frame.put_u16(1);
    frame.put_u16(length as u16);
    frame.put_slice(fields);
    frame.put_bytes(0, length.next_multiple_of(8) - length);
    if !actions.is_empty() {
        frame.put_u16(4);
        frame.put_u16((actions.len() + 8) as u16);
        frame.put_u32(0);
        frame.put_slice(actions);
    }
    let length = (frame.len() as u16).to_be_bytes();
    frame[2..4].copy_from_slice(&length);
    let frame = frame.freeze();
    let (xid, message) = Message::decode(&frame).unwrap();
    let mut out = BytesMut::new();
    message.encode(xid, &mut out).unwrap();
    (frame, out.freeze())
}

/// Three bytes between table and alg of `ct`, which were zeros after a round trip.
#[test]
fn padding_inside_ct_is_kept() {
    let ct = [
        0xff, 0xff, 0, 24, 0, 0, 0x23, 0x20, 0, 35, 0, 1, 0, 0, 0, 0, 0, 7, 0xff, 0xf7, 0, 0, 0, 0,
    ];
    let (sent, back) = reencoded(&[], &ct);
    assert_eq!(sent, back);
}

/// The bytes behind the port and length of `output`, and behind the table of `resubmit`.
#[test]
fn padding_behind_an_action_is_kept() {
    let output = [0, 0, 0, 16, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 9];
    let (sent, back) = reencoded(&[], &output);
    assert_eq!(sent, back);
    let resubmit = [0xff, 0xff, 0, 16, 0, 0, 0x23, 0x20, 0, 14, 0xff, 0xf8, 5, 0, 1, 0];
    let (sent, back) = reencoded(&[], &resubmit);
    assert_eq!(sent, back);
}

/// The mask bit in the header of the field that `load` writes to.
#[test]
fn a_mask_bit_in_the_header_of_load_is_kept() {
    let load = |field: [u8; 4]| {
        let mut load = vec![0xff, 0xff, 0, 24, 0, 0, 0x23, 0x20, 0, 7, 0, 31];
        load.extend(field);
        load.extend([0, 0, 0, 0, 0, 0, 0, 1]);
        load
    };
    for field in [[0xff, 0, 7, 15], [0, 1, 1, 4]] {
        let (sent, back) = reencoded(&[], &load(field));
        assert_eq!(sent, back);
    }
}

/// Unknown fields without a value, which came back with a mask, and tunnel metadata without one, which OVS writes for a
/// zero.
#[test]
fn a_field_of_no_bytes_keeps_its_mask_bit() {
    for field in [[0, 0, 0, 0], [0, 0, 1, 0], [0, 0x79, 0, 0], [0, 1, 0x52, 0], [0, 1, 0x53, 0]] {
        let (sent, back) = reencoded(&field, &[]);
        assert_eq!(sent, back, "{field:?}");
    }
    let set_field = |field: [u8; 4]| [&[0, 25, 0, 8][..], &field].concat();
    for field in [[0, 1, 0x50, 0], [0, 1, 0x51, 0], [0, 0x79, 0, 0], [0, 0x79, 1, 0]] {
        let (sent, back) = reencoded(&[], &set_field(field));
        assert_eq!(sent, back, "{field:?}");
    }
}

/// A mask of ones over all bytes of a field that has fewer bits: it came back with the mask, where OVS has none.
#[test]
fn a_mask_of_ones_is_none_whatever_the_bits_of_the_field() {
    let (_, back) = reencoded(&[0x80, 0, 0x11, 2, 0xff, 0xff], &[]);
    assert_eq!(back[52..57], [0x80, 0, 0x10, 1, 0xff]);
    let (_, back) = reencoded(&[0x80, 0, 0x0d, 4, 0x10, 5, 0xff, 0xff], &[]);
    assert_eq!(back[52..58], [0x80, 0, 0x0c, 2, 0x10, 5]);
}

/// Six bits of a tunnel header, with and without a mask of just these: both are what OVS writes.
#[test]
fn a_set_field_of_a_few_bits_keeps_whether_it_has_a_mask() {
    let whole = [0, 25, 0, 16, 0xff, 0xff, 0x1c, 5, 0, 0, 0x23, 0x20, 5, 0, 0, 0];
    let (sent, back) = reencoded(&[], &whole);
    assert_eq!(sent, back);
    let (sent, back) = reencoded(&[0xff, 0xff, 0x1c, 5, 0, 0, 0x23, 0x20, 5], &[]);
    assert_eq!(sent, back);
}
