//! Claims about which refusals become rows.

use super::*;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_unix(seconds)
}

fn recorded(sampled: &Sampled) -> Option<u64> {
    match sampled {
        Sampled::Record { left_out, .. } => Some(*left_out),
        Sampled::LeaveOut => None,
    }
}

#[test]
fn a_flood_of_strangers_is_one_row_a_second_with_the_number_left_out() {
    let mut sampler = Sampler::new(SampleLimits::default());
    let mut rows = Vec::new();
    for second in 0..10 {
        for _ in 0..1000 {
            rows.extend(recorded(&sampler.judge(None, "bad_token", at(second))));
        }
    }
    assert_eq!(rows, [0, 999, 999, 999, 999, 999, 999, 999, 999, 999]);
    let left = sampler.settle(at(11), false);
    assert_eq!(left.len(), 1);
    assert_eq!((left[0].reason.as_str(), left[0].count), ("bad_token", 999));
}

#[test]
fn reasons_are_counted_apart() {
    let mut sampler = Sampler::new(SampleLimits::default());
    assert_eq!(recorded(&sampler.judge(None, "bad_token", at(0))), Some(0));
    assert_eq!(recorded(&sampler.judge(None, "bad_csr", at(0))), Some(0));
    assert_eq!(recorded(&sampler.judge(None, "bad_csr", at(0))), None);
}

#[test]
fn a_known_caller_has_ten_rows_a_minute() {
    let mut sampler = Sampler::new(SampleLimits::default());
    let rows: Vec<_> = (0..60)
        .filter_map(|second| recorded(&sampler.judge(Some("host:a"), "not_entitled", at(second))))
        .collect();
    assert_eq!(rows, [0; 10]);
    assert_eq!(
        recorded(&sampler.judge(Some("host:b"), "not_entitled", at(59))),
        Some(0)
    );
    assert_eq!(
        recorded(&sampler.judge(Some("host:a"), "not_entitled", at(60))),
        Some(50)
    );
}

#[test]
fn accounts_are_bounded_and_the_rest_share_one() {
    let limits = SampleLimits {
        accounts: 3,
        ..SampleLimits::default()
    };
    let mut sampler = Sampler::new(limits);
    let callers: Vec<String> = (0..1000).map(|number| format!("host:{number}")).collect();
    let rows = callers
        .iter()
        .filter(|caller| recorded(&sampler.judge(Some(caller), "not_entitled", at(0))).is_some())
        .count();
    assert_eq!(rows, 4, "three of their own, one for all others");
    assert!(sampler.windows.len() <= 4);
    let left: u64 = sampler.settle(at(0), true).iter().map(|left| left.count).sum();
    assert_eq!(left, 996);
}

#[test]
fn accounts_that_have_nothing_to_tell_are_forgotten() {
    let mut sampler = Sampler::new(SampleLimits::default());
    for number in 0..100 {
        sampler.judge(Some(&format!("host:{number}")), "not_entitled", at(0));
    }
    assert_eq!(sampler.settle(at(60), false), []);
    assert!(sampler.windows.is_empty());
}

#[test]
fn a_clock_that_is_set_back_silences_nobody() {
    let mut sampler = Sampler::new(SampleLimits::default());
    sampler.judge(None, "bad_token", at(1000));
    assert_eq!(recorded(&sampler.judge(None, "bad_token", at(10))), Some(0));
}

#[test]
fn what_could_not_be_recorded_is_counted_as_left_out() {
    let mut sampler = Sampler::new(SampleLimits::default());
    let Sampled::Record { account, left_out } = sampler.judge(None, "bad_token", at(0)) else {
        panic!("the first is recorded");
    };
    sampler.put_back(account, "bad_token", left_out + 1, at(0));
    assert_eq!(recorded(&sampler.judge(None, "bad_token", at(1))), Some(1));
}
