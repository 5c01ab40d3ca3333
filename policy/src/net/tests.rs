use proptest::prelude::*;

use super::*;

fn prefix(text: &str) -> Prefix {
    Prefix::parse(text).unwrap()
}

fn texts(prefixes: &[Prefix]) -> Vec<String> {
    prefixes.iter().map(ToString::to_string).collect()
}

#[test]
fn parse_np16_np17() {
    assert_eq!(prefix("10.0.0.5/24").to_string(), "10.0.0.0/24");
    assert_eq!(prefix("010.000.0.08/29").to_string(), "10.0.0.8/29");
    assert_eq!(prefix("0.0.0.0/0").to_string(), "0.0.0.0/0");
    assert_eq!(prefix("fd00::1/64").to_string(), "fd00::/64");
    assert_eq!(prefix("10.0.0.0/024").to_string(), "10.0.0.0/24");
    for (text, error) in [
        ("10.0.0.0", CidrError::NoLength),
        ("10.0.0.0/33", CidrError::BadLength("33".into(), 32)),
        ("10.0.0.0/+8", CidrError::BadLength("+8".into(), 32)),
        ("10.0.0.0/255.0.0.0", CidrError::BadLength("255.0.0.0".into(), 32)),
        ("::/129", CidrError::BadLength("129".into(), 128)),
        ("10.0.0/8", CidrError::BadAddress("10.0.0".into())),
        ("10.0.0.0.0/8", CidrError::BadAddress("10.0.0.0.0".into())),
        ("10.0.0.256/8", CidrError::BadAddress("10.0.0.256".into())),
        ("10.0.0.-1/8", CidrError::BadAddress("10.0.0.-1".into())),
        (" 10.0.0.0/8", CidrError::BadAddress(" 10.0.0.0".into())),
        ("::ffff:10.0.0.0/104", CidrError::Mapped),
        ("fe80::1%eth0/64", CidrError::BadAddress("fe80::1%eth0".into())),
    ] {
        assert_eq!(Prefix::parse(text), Err(error), "{text}");
    }
    // shorter than the mapped range, this one holds other addresses too
    assert_eq!(Prefix::parse("::/0").unwrap().length(), 0);
}

#[test]
fn block_prefixes() {
    let block = |cidr: &str, except: &[&str]| IpBlock {
        cidr: prefix(cidr),
        except: except.iter().map(|e| prefix(e)).collect(),
    };
    assert_eq!(
        texts(&block("10.10.0.0/24", &["10.10.0.80/28", "10.10.0.88/29"]).prefixes()),
        ["10.10.0.0/26", "10.10.0.64/28", "10.10.0.96/27", "10.10.0.128/25"]
    );
    assert!(block("10.0.0.0/8", &["0.0.0.0/0"]).prefixes().is_empty());
    assert_eq!(texts(&block("10.0.0.0/8", &["192.168.0.0/16", "::/0"]).prefixes()), ["10.0.0.0/8"]);
    assert_eq!(block("0.0.0.0/0", &["10.1.2.3/32"]).prefixes().len(), 32);
    assert_eq!(block("::/0", &["fd00::1/128"]).prefixes().len(), 128);
}

#[test]
fn unions() {
    let of = |list: &[&str]| texts(&union(list.iter().map(|p| prefix(p))));
    assert_eq!(of(&["10.0.0.0/25", "10.0.0.128/25"]), ["10.0.0.0/24"]);
    assert_eq!(of(&["10.0.0.128/25", "10.0.0.0/26", "10.0.0.64/26"]), ["10.0.0.0/24"]);
    assert_eq!(of(&["0.0.0.0/1", "128.0.0.0/1", "::/1", "8000::/1"]), ["0.0.0.0/0", "::/0"]);
    assert_eq!(of(&["10.0.0.0/24", "10.0.0.7/32"]), ["10.0.0.0/24"]);
    assert_eq!(of(&["10.0.0.128/25", "10.0.1.0/25"]), ["10.0.0.128/25", "10.0.1.0/25"]);
    assert!(of(&[]).is_empty());
}

/// Few bits, so that prefixes meet.
fn small() -> impl Strategy<Value = Prefix> {
    (any::<bool>(), 0u8..64, 24u8..=32).prop_map(|(v6, low, length)| {
        if v6 {
            Prefix::new(Ipv6Addr::from(u128::from(low)).into(), length + 96)
        } else {
            Prefix::new(Ipv4Addr::from(u32::from(low)).into(), length)
        }
    })
}

fn all_small() -> impl Iterator<Item = IpAddr> {
    (0u32..300)
        .map(|n| Ipv4Addr::from(n).into())
        .chain((0u128..300).map(|n| Ipv6Addr::from(n).into()))
}

proptest! {
    #[test]
    fn prefixes_are_contains(cidr in small(), except in proptest::collection::btree_set(small(), 0..5)) {
        let block = IpBlock { cidr, except };
        let parts = block.prefixes();
        for address in all_small() {
            let hits = parts.iter().filter(|p| p.contains(address)).count();
            prop_assert_eq!(hits, usize::from(block.contains(address)), "{} in {}", address, block);
        }
    }

    #[test]
    fn union_is_exact_and_smallest(prefixes in proptest::collection::vec(small(), 0..8)) {
        let out = union(prefixes.clone());
        for address in all_small() {
            let hits = out.iter().filter(|p| p.contains(address)).count();
            prop_assert_eq!(hits, usize::from(prefixes.iter().any(|p| p.contains(address))));
        }
        // no two of them are one prefix, so none can go
        for (a, b) in out.iter().zip(out.iter().skip(1)) {
            prop_assert!(a.length() == 0 || a.length() != b.length() || a.is_ipv4() != b.is_ipv4()
                || !Prefix::new(a.address(), a.length() - 1).covers(b));
        }
        prop_assert_eq!(union(out.clone()), out);
    }

    #[test]
    fn written_and_read_again(address in any::<IpAddr>(), length in 0u8..=128) {
        let p = Prefix::new(address, length);
        match Prefix::parse(&p.to_string()) {
            Ok(read) => prop_assert_eq!(read, p),
            Err(e) => prop_assert_eq!(e, CidrError::Mapped),
        }
    }

    #[test]
    fn no_text_panics(text in "\\PC{0,40}") {
        let _ = Prefix::parse(&text);
        let _ = parse_address(&text);
    }
}
