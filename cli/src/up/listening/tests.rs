//! Tests what is read of the kernel's answers, made up and real.

use std::net::TcpListener;

use super::*;

#[test]
fn a_listeners_line_is_told_from_others() {
    let line = |at: &str, state: &str| format!("   0: {at} 00000000:0000 {state} 00000000:00000000 00:0");
    let read = |at: &str| listener(&line(at, "0A")).map(|at| at.to_string());
    assert_eq!(read("0100007F:1F90").as_deref(), Some("127.0.0.1:8080"));
    assert_eq!(read("00000000:0050").as_deref(), Some("0.0.0.0:80"));
    let (any, own) = ("0".repeat(32), format!("{}01000000", "0".repeat(24)));
    assert_eq!(read(&format!("{any}:0050")).as_deref(), Some("[::]:80"));
    assert_eq!(read(&format!("{own}:0050")).as_deref(), Some("[::1]:80"));
    let mapped = format!("{}FFFF00000100007F:0050", "0".repeat(16));
    assert_eq!(read(&mapped).as_deref(), Some("127.0.0.1:80"));
    assert_eq!(listener(&line("0100007F:1F90", "01")), None);
    let head = "  sl  local_address rem_address   st tx_queue";
    assert_eq!(listener(head), None);
}

#[test]
fn the_kernel_and_its_table_name_the_same_listeners() {
    let open: Vec<TcpListener> = ["127.0.0.1:0", "0.0.0.0:0", "[::1]:0", "[::]:0"]
        .iter()
        .filter_map(|at| TcpListener::bind(at).ok())
        .collect();
    assert!(open.len() >= 2);
    // A connection is no listener.
    let at = open[0].local_addr().unwrap();
    let caller = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    caller.connect(&at.into()).unwrap();
    let caller = caller.local_addr().unwrap().as_socket().unwrap();
    let mut diag = Diag::open().unwrap();
    for found in [diag.listening().unwrap(), table().unwrap()] {
        for listener in &open {
            let at = listener.local_addr().unwrap();
            assert!(found.contains(&at), "{at} is not in {found:?}");
        }
        assert!(!found.contains(&caller), "{caller} is in {found:?}");
    }
}

#[test]
fn without_the_kernels_door_the_table_is_read() {
    let open = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut looking = Listening {
        space: None,
        diag: None,
    };
    assert!(looking.now().unwrap().contains(&open.local_addr().unwrap()));
}

/// A message with that head, and `body` behind it.
fn message(kind: u16, sequence: u32, body: &[u8]) -> Vec<u8> {
    let mut bytes = u32::try_from(HEAD + body.len()).unwrap().to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend([0; 2]);
    bytes.extend(sequence.to_ne_bytes());
    bytes.extend([0; 4]);
    bytes.extend(body);
    bytes
}

#[test]
fn an_answer_that_is_refused_or_broken_is_an_error() {
    let read = |datagram: &[u8]| take(datagram, 7, &mut Vec::new());
    let mut socket = vec![AF_INET, 10, 0, 0, 0x1f, 0x90, 0, 0, 10, 213, 0, 1];
    socket.resize(72, 0);
    let mut found = Vec::new();
    let both = [message(BY_FAMILY, 7, &socket), message(DONE, 7, &[0; 4])].concat();
    assert!(take(&both, 7, &mut found).unwrap());
    assert_eq!(found, ["10.213.0.1:8080".parse().unwrap()]);
    assert!(!read(&message(BY_FAMILY, 7, &socket)).unwrap());

    let refused = read(&message(ERROR, 7, &(-2_i32).to_ne_bytes())).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::NotFound);
    let broken = [
        message(BY_FAMILY, 8, &socket),
        message(BY_FAMILY, 7, &socket[..20]),
        message(99, 7, &socket),
        message(BY_FAMILY, 7, &socket)[..40].to_vec(),
        vec![0; 16],
        vec![1, 2, 3],
    ];
    for datagram in broken {
        assert!(read(&datagram).is_err(), "{datagram:?}");
    }
}
