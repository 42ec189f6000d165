//! Follows events of watches, as the client gives them.

use futures::stream;
use k8s_openapi::api::core::v1::ConfigMap;

use super::*;

fn object(name: &str) -> ConfigMap {
    let mut object = ConfigMap::default();
    object.metadata.name = Some(name.to_owned());
    object
}

async fn followed(events: Vec<Result<Event<ConfigMap>, watcher::Error>>) -> Vec<Watched<String, usize>> {
    let read = |object: ConfigMap| object.metadata.name.map(|name| (name.clone(), Some(name.len())));
    seen(stream::iter(events), read).collect().await
}

#[tokio::test]
async fn a_list_counts_once_it_is_complete() {
    let first = vec![
        Ok(Event::Init),
        Ok(Event::InitApply(object("a"))),
        // The list broke, and is made anew.
        Err(watcher::Error::NoResourceVersion),
        Ok(Event::Init),
        Ok(Event::InitApply(object("bb"))),
    ];
    let seen = followed(first.into_iter().collect()).await;
    assert!(
        matches!(&seen[..], [Err(_)]),
        "nothing is seen of a list that is not complete"
    );
    let whole = vec![
        Ok(Event::Init),
        Ok(Event::InitApply(object("a"))),
        Ok(Event::InitDone),
        Ok(Event::Apply(object("bb"))),
        Ok(Event::Delete(object("a"))),
    ];
    let seen = followed(whole).await;
    let all = Seen::All(vec![("a".to_owned(), Some(1))]);
    let [Ok(first), Ok(second), Ok(third)] = &seen[..] else {
        panic!("{seen:?}");
    };
    assert_eq!(*first, all);
    assert_eq!(*second, Seen::Here("bb".to_owned(), Some(2)));
    assert_eq!(*third, Seen::Gone("a".to_owned()));
}

#[test]
fn pauses_grow_and_are_never_long() {
    let mut pause = Pause::default();
    let waits: Vec<Duration> = (0..32).filter_map(|_| pause.next()).collect();
    assert!(
        waits.iter().all(|wait| (SHORTEST..=LONGEST).contains(wait)),
        "{waits:?}"
    );
    pause.reset();
    assert_eq!(pause.failures, 0);
}
