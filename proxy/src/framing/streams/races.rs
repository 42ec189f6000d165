//! Lets both ends of a connection say anything at any time, with any delay, and compares with what each stream is.

use proptest::prelude::*;

use super::*;

/// What both sides know of one stream.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Known {
    sent: Vec<u8>,
    heard: Vec<u8>,
    /// How the other side's half ended, as heard.
    end: Option<&'static str>,
    /// How our half ended, as said.
    said: Option<&'static str>,
}

/// One end, with what an application on it does.
struct Half {
    streams: Streams,
    /// Each stream in its turn.
    known: Vec<Known>,
    is_accepted: bool,
    /// What is on its way to the other end.
    out: Vec<u8>,
}

impl Half {
    fn new(side: Side) -> Self {
        Self {
            streams: Streams::new(side),
            known: Vec::new(),
            is_accepted: false,
            out: Vec::new(),
        }
    }

    fn say(&mut self, word: &'static str, say: impl FnOnce(&mut Streams, &mut Buffer)) {
        let mut out = Buffer::new();
        say(&mut self.streams, &mut out);
        self.out.extend_from_slice(out.filled());
        if let Some(known) = self.known.last_mut()
            && matches!(word, "finish" | "reset" | "refused")
        {
            assert_eq!(known.said.replace(word), None, "one last word");
        }
    }

    fn has_said(&self) -> bool {
        self.known.last().is_none_or(|known| known.said.is_some())
    }

    fn open(&mut self) {
        if self.streams.is_idle() {
            self.known.push(Known::default());
            self.say("open", |streams, out| streams.open(out));
        }
    }

    fn answer(&mut self, yes: bool) {
        let is_asked = self.streams.stage == Stage::Opening && !self.has_said();
        if is_asked && yes {
            self.is_accepted = true;
            self.say("accepted", |streams, out| streams.accept(out));
        } else if is_asked {
            self.say("refused", |streams, out| {
                streams.refuse("denied", out);
            });
        }
    }

    fn may_speak(&self) -> bool {
        !self.has_said() && (self.streams.side == Side::Dialling || self.is_accepted)
    }

    fn send(&mut self, mark: u8) {
        if !self.may_speak() {
            return;
        }
        let mut piece = Buffer::new();
        piece.skip(self.streams.head());
        piece.push(&vec![mark; usize::from(mark % 7) + 1]);
        self.streams.pack(piece.filled_mut());
        self.out.extend_from_slice(piece.filled());
        if let Some(known) = self.known.last_mut() {
            known.sent.extend_from_slice(&piece.filled()[HEAD..]);
        }
    }

    fn finish(&mut self) {
        if self.may_speak() {
            self.say("finish", |streams, out| {
                streams.finish(out);
            });
        }
    }

    fn reset(&mut self) {
        if self.may_speak() {
            self.say("reset", |streams, out| {
                assert_eq!(streams.reset("", out), End::Stream);
            });
        }
    }

    /// Takes bytes that the other end has sent, and answers what has to be answered at once.
    fn hear(&mut self, bytes: &[u8]) {
        let mut text = Buffer::new();
        text.push(bytes);
        loop {
            let heard = self
                .streams
                .unpack(&mut text, false)
                .expect("both ends keep to the framing");
            if let Some(known) = self.known.last_mut() {
                known.heard.extend_from_slice(text.filled());
            } else {
                assert!(text.filled().is_empty());
            }
            text.clear();
            let end = match heard {
                Heard::Data => return,
                Heard::Opened => {
                    self.known.push(Known::default());
                    self.is_accepted = false;
                    continue;
                }
                Heard::Accepted => {
                    self.is_accepted = true;
                    continue;
                }
                Heard::Finished => "finish",
                Heard::Refused(_) => "refused",
                Heard::Reset(_) => "reset",
                Heard::Left => panic!("nobody has left"),
            };
            let known = self.known.last_mut().expect("a stream");
            assert_eq!(known.end.replace(end), None, "one last word");
            if end != "finish" && !self.has_said() {
                let is_asked = self.streams.side == Side::Dialled && !self.is_accepted;
                match is_asked {
                    true => self.answer(false),
                    false => self.say("reset", |streams, out| {
                        assert_eq!(streams.reset("", out), End::Stream);
                    }),
                }
            }
        }
    }
}

fn pass(from: &mut Half, to: &mut Half, most: usize) {
    let count = from.out.len().min(most);
    let bytes: Vec<u8> = from.out.drain(..count).collect();
    to.hear(&bytes);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn streams_are_what_was_said_on_them_and_nothing_of_others(
        steps in prop::collection::vec((0..14_u8, any::<u8>()), 0..200),
    ) {
        let (mut near, mut far) = (Half::new(Side::Dialling), Half::new(Side::Dialled));
        for (step, mark) in steps {
            match step {
                0 | 1 => near.open(),
                2 | 3 => near.send(mark),
                4 => near.finish(),
                5 => near.reset(),
                6 => far.answer(mark % 4 > 0),
                7 | 8 => far.send(mark),
                9 => far.finish(),
                10 => far.reset(),
                11 | 12 => pass(&mut near, &mut far, usize::from(mark)),
                _ => pass(&mut far, &mut near, usize::from(mark)),
            }
        }
        // In the end everybody is done, and everything arrives.
        for _ in 0..4 {
            pass(&mut near, &mut far, usize::MAX);
            pass(&mut far, &mut near, usize::MAX);
            far.answer(true);
            near.finish();
            far.finish();
        }
        prop_assert!(near.out.is_empty() && far.out.is_empty());
        prop_assert!(near.streams.is_idle() && far.streams.is_idle());
        prop_assert_eq!(near.known.len(), far.known.len());
        for (near, far) in near.known.iter().zip(&far.known) {
            for (from, to) in [(near, far), (far, near)] {
                prop_assert!(from.sent.starts_with(&to.heard), "{from:?} {to:?}");
                // What ended of itself came whole, to whoever still listened.
                if to.end == Some("finish") {
                    prop_assert_eq!(&from.sent, &to.heard);
                    prop_assert_eq!(from.said, Some("finish"));
                }
                // Every cut is heard, or was answered by one.
                let is_cut = |word| matches!(word, Some("reset" | "refused"));
                if is_cut(from.said) {
                    prop_assert!(is_cut(to.end) || is_cut(to.said), "{from:?} {to:?}");
                }
            }
        }
    }
}
