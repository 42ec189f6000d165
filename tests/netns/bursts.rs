//! Many connections at once, again and again: what they took is given back.

use std::net::TcpStream;

use ferrule_tests::netns::alone;
use ferrule_tests::wait::until;

use crate::crowds::open_many;
use crate::pair::{Pair, ask, dial, memory, pair};

// E8: a thousand connections that carry a word and then nothing, three times; the last time takes no more than the
// first one.
#[test]
#[ignore = "needs root or user namespaces, and nft: tests/run"]
fn what_a_burst_of_connections_took_is_given_back() {
    alone(|mesh| {
        open_many();
        let mut pair = pair(
            mesh,
            |api| api.v4().into(),
            "connection: { pool: { idle: 1s } }\nworkers: 1\n",
        );
        let Pair {
            web, at, out, into, ..
        } = &mut pair;
        // What is made once is there.
        ask(&mut dial(web, *at));
        let before = [memory(out), memory(into)];
        let mut took = Vec::new();
        for round in 0..ROUNDS {
            let mut crowd: Vec<TcpStream> = (0..CROWD).map(|_| dial(web, *at)).collect();
            crowd.iter_mut().for_each(ask);
            for (sidecar, direction) in [(&*out, "outbound"), (&*into, "inbound")] {
                let open = sidecar.count(&["ferrule_connections_open", direction]);
                assert_eq!(open, f64::from(CROWD), "all are open");
            }
            let during = [memory(out), memory(into)];
            drop(crowd);
            let taken = [during[0] - before[0], during[1] - before[1]];
            println!("figure: round {round}: {CROWD} connections took {taken:?} bytes");
            let left = until("half of what they took is given back", || {
                let left = [memory(out), memory(into)];
                let left = [
                    left[0].saturating_sub(before[0]),
                    left[1].saturating_sub(before[1]),
                ];
                // The rest is kept for the next ones.
                (left[0] < taken[0] / 2 && left[1] < taken[1] / 2).then_some(left)
            });
            println!("figure: of them {left:?} are left");
            took.push(taken);
        }
        for side in 0..2 {
            let (first, last) = (took[0][side], took[ROUNDS - 1][side]);
            assert!(last < first + first / 3, "{took:?}");
        }
    });
}

const CROWD: u32 = 1000;
const ROUNDS: usize = 3;
