//! Reads names from hellos that rustls writes, from altered ones, and from requests.

use std::sync::Arc;

use rustls::ClientConnection;

use super::*;
use crate::sniff::hello::HelloError;
use crate::tls::session::tests::settings;

/// A hello of rustls, with TLS 1.3 and 1.2, for `name`.
fn hello(name: &str) -> Vec<u8> {
    let config = Arc::clone(&settings().0);
    let mut client = ClientConnection::new(config, name.to_owned().try_into().unwrap()).unwrap();
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).unwrap();
    bytes
}

/// A hello with these extensions and nothing else of interest.
fn bare(extensions: &[(u16, &[u8])]) -> Vec<u8> {
    let mut all = Vec::new();
    for (kind, content) in extensions {
        all.extend(kind.to_be_bytes());
        all.extend(u16::try_from(content.len()).unwrap().to_be_bytes());
        all.extend_from_slice(content);
    }
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.extend([0, 0, 2, 0x13, 0x01, 1, 0]);
    body.extend(u16::try_from(all.len()).unwrap().to_be_bytes());
    body.extend(all);
    let mut message = vec![1, 0];
    message.extend(u16::try_from(body.len()).unwrap().to_be_bytes());
    message.extend(body);
    records(&message, message.len())
}

/// The message in records of `size` bytes.
fn records(message: &[u8], size: usize) -> Vec<u8> {
    message
        .chunks(size)
        .flat_map(|part| {
            let length = u16::try_from(part.len()).unwrap().to_be_bytes();
            [&[22, 3, 1, length[0], length[1]], part].concat()
        })
        .collect()
}

fn sni(name: &[u8]) -> Vec<u8> {
    let length = u16::try_from(name.len()).unwrap();
    let mut list = (length + 3).to_be_bytes().to_vec();
    list.push(0);
    list.extend(length.to_be_bytes());
    list.extend_from_slice(name);
    list
}

fn named(name: &str) -> Told {
    Told::Host(HostName::parse(name).unwrap())
}

fn why(told: Told) -> String {
    match told {
        Told::Nameless(nameless) => nameless.to_string(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_server_name_of_a_hello_is_the_host() {
    assert_eq!(name_in(&hello("API.example.com")), named("api.example.com"));
    assert_eq!(
        name_in(&bare(&[(0, &sni(b"xn--bcher-kva.example"))])),
        named("xn--bcher-kva.example")
    );
    let long = format!("{}.example", ["a"; 20].join("."));
    assert_eq!(name_in(&bare(&[(0, &sni(long.as_bytes()))])), named(&long));
}

// However the bytes are cut, the name is read from the whole hello, and never from less.
#[test]
fn a_hello_in_pieces_is_unclear_until_its_last_byte() {
    let whole = hello("db.example");
    for end in 0..whole.len() {
        assert_eq!(name_in(&whole[..end]), Told::Unclear, "{end} bytes");
    }
    for size in [1, 2, 3, 7, 100] {
        let pieces = records(&whole[5..], size);
        assert_eq!(name_in(&pieces), named("db.example"), "records of {size}");
        assert_eq!(name_in(&pieces[..pieces.len() - 1]), Told::Unclear);
    }
    let mut more = whole;
    more.extend(b"what follows is not looked at");
    assert_eq!(name_in(&more), named("db.example"));
}

#[test]
fn a_hello_without_one_plain_name_has_none() {
    assert_eq!(
        name_in(&hello("192.0.2.1")),
        Told::Nameless(Nameless::NoServerName)
    );
    assert_eq!(name_in(&bare(&[])), Told::Nameless(Nameless::NoServerName));
    let encrypted: [&[(u16, &[u8])]; 2] = [
        &[(0, &sni(b"cover.example")), (0xfe0d, b"sealed")],
        &[(0xffce, b"sealed")],
    ];
    for extensions in encrypted {
        assert_eq!(name_in(&bare(extensions)), Told::Nameless(Nameless::Encrypted));
    }
    for name in [
        "192.0.2.1",
        "bücher.example",
        "a b",
        "*.example.com",
        "a..b",
        "[::1]",
    ] {
        let told = name_in(&bare(&[(0, &sni(name.as_bytes()))]));
        assert!(why(told).contains("which is no name of a host"), "{name}");
    }
    assert!(why(name_in(&bare(&[(0, &sni(b"\xff\x00.example"))]))).contains("no name of a host"));
}

#[test]
fn a_hello_that_two_readers_might_take_differently_is_not_read() {
    let broken = |extensions: &[(u16, &[u8])]| match name_in(&bare(extensions)) {
        Told::Nameless(Nameless::Hello { source }) => source,
        other => panic!("{other:?}"),
    };
    let two = [sni(b"a.example"), sni(b"b.example")];
    assert_eq!(broken(&[(0, &two[0]), (0, &two[1])]), HelloError::Twice);
    assert_eq!(broken(&[(9, b""), (9, b"")]), HelloError::Twice);
    let mut list = sni(b"a.example");
    list.extend_from_slice(&sni(b"b.example")[2..]);
    let length = u16::try_from(list.len() - 2).unwrap().to_be_bytes();
    list[..2].copy_from_slice(&length);
    assert_eq!(broken(&[(0, &list)]), HelloError::Names);
    assert_eq!(broken(&[(0, b"\x00\x05\x00\x00\x09a")]), HelloError::Length);
    assert_eq!(broken(&[(0, &sni(b""))]), HelloError::Names);
    let mut cut = bare(&[(0, &sni(b"a.example"))]);
    // The hello says that it is shorter than its extensions are.
    cut[8] -= 4;
    assert!(matches!(name_in(&cut), Told::Nameless(Nameless::Hello { .. })));
    assert!(matches!(
        name_in(&[22, 3, 3, 0, 0]),
        Told::Nameless(Nameless::Hello { .. })
    ));
    assert!(matches!(
        name_in(&[22, 2]),
        Told::Nameless(Nameless::Hello { .. })
    ));
    assert!(matches!(
        name_in(&[22, 3, 3, 0, 1, 2]),
        Told::Nameless(Nameless::Hello { .. })
    ));
}

#[test]
fn the_host_field_of_a_request_is_the_host() {
    for text in [
        "GET / HTTP/1.1\r\nHost: api.example.com\r\n\r\n",
        "GET / HTTP/1.1\r\nuser-agent: x\r\nHOST:   API.Example.COM.:8080  \r\nx: y\r\n\r\nbody",
        "GET http://api.example.com:80/path HTTP/1.1\r\nHost: api.example.com\r\n\r\n",
        "GET /path?to=http://other.example/ HTTP/1.0\r\nHost: api.example.com\r\n\r\n",
    ] {
        assert_eq!(name_in(text.as_bytes()), named("api.example.com"), "{text}");
    }
    let text = b"POST /a HTTP/1.1\r\nHost: a.example\r\nx: y\r\n\r\n";
    for end in 0..text.len() {
        assert_eq!(name_in(&text[..end]), Told::Unclear, "{end} bytes");
    }
}

#[test]
fn a_request_without_one_plain_host_has_none() {
    for (text, word) in [
        ("GET / HTTP/1.1\r\nx: y\r\n\r\n", "no Host"),
        (
            "GET / HTTP/1.1\r\nHost: a.example\r\nhost: b.example\r\n\r\n",
            "more than one",
        ),
        (
            "GET http://b.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n",
            "more than one",
        ),
        (
            "GET / HTTP/1.1\r\nHost: 192.0.2.1:80\r\n\r\n",
            "no name of a host",
        ),
        (
            "GET / HTTP/1.1\r\nHost: [2001:db8::1]:80\r\n\r\n",
            "no name of a host",
        ),
        ("GET / HTTP/1.1\r\nHost: \r\n\r\n", "no name of a host"),
        (
            "GET / HTTP/1.1\r\nHost: a.example,b.example\r\n\r\n",
            "no name of a host",
        ),
        (
            "GET / HTTP/1.1\r\nHost: user@a.example\r\n\r\n",
            "no name of a host",
        ),
        (
            "CONNECT a.example:443 HTTP/1.1\r\nHost: a.example\r\n\r\n",
            "CONNECT",
        ),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "neither"),
        ("SSH-2.0-OpenSSH_9.7\r\n", "neither"),
        ("\0\0\0\x08\x04", "neither"),
    ] {
        assert!(why(name_in(text.as_bytes())).contains(word), "{text:?}");
    }
}

#[test]
fn what_goes_on_for_ever_is_given_up() {
    let mut head = b"GET / HTTP/1.1\r\nHost: a.example\r\nx: ".to_vec();
    head.resize(MOST_BYTES - 1, b'y');
    assert_eq!(name_in(&head), Told::Unclear);
    head.push(b'y');
    assert_eq!(name_in(&head), Told::Nameless(Nameless::TooLong));
}
