//! A resolver that knows the names of one test.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::thread::{self, JoinHandle};

use simple_dns::rdata::{A, AAAA, RData};
use simple_dns::{CLASS, Packet, QTYPE, RCODE, ResourceRecord, TYPE};

/// Answers until it is dropped.
pub(crate) struct Resolver {
    at: SocketAddr,
    thread: Option<JoinHandle<()>>,
}

impl Resolver {
    /// Answers at `at` with the addresses of `names`; others have none.
    pub(crate) fn start(at: SocketAddr, names: &[(&str, Vec<IpAddr>)]) -> Self {
        let socket = UdpSocket::bind(at).unwrap();
        let names: HashMap<String, Vec<IpAddr>> = names
            .iter()
            .map(|(name, addresses)| ((*name).to_owned(), addresses.clone()))
            .collect();
        let thread = thread::spawn(move || {
            let mut bytes = [0; 1500];
            loop {
                let (length, client) = socket.recv_from(&mut bytes).unwrap();
                match bytes.get(..length) {
                    // The word for the end.
                    Some([]) => return,
                    Some(question) => drop(socket.send_to(&reply(question, &names), client)),
                    None => unreachable!("a datagram is no longer than its buffer"),
                }
            }
        });
        Self {
            at,
            thread: Some(thread),
        }
    }
}

impl Drop for Resolver {
    fn drop(&mut self) {
        UdpSocket::bind("0.0.0.0:0")
            .unwrap()
            .send_to(&[], self.at)
            .unwrap();
        self.thread.take().unwrap().join().unwrap();
    }
}

fn reply(question: &[u8], names: &HashMap<String, Vec<IpAddr>>) -> Vec<u8> {
    let packet = Packet::parse(question).unwrap();
    let asked = packet.questions[0].clone();
    let mut reply = packet.into_reply();
    match names.get(&asked.qname.to_string().to_ascii_lowercase()) {
        None => *reply.rcode_mut() = RCODE::NameError,
        Some(addresses) => {
            for address in addresses {
                let data = match (address, asked.qtype) {
                    (IpAddr::V4(v4), QTYPE::TYPE(TYPE::A)) => RData::A(A {
                        address: v4.to_bits(),
                    }),
                    (IpAddr::V6(v6), QTYPE::TYPE(TYPE::AAAA)) => RData::AAAA(AAAA {
                        address: v6.to_bits(),
                    }),
                    _ => continue,
                };
                let name = asked.qname.clone();
                reply.answers.push(ResourceRecord::new(name, CLASS::IN, 60, data));
            }
        }
    }
    reply.build_bytes_vec().unwrap()
}
