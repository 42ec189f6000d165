//! Answers the API server's questions over HTTP.

use std::sync::Arc;
use std::time::Instant;

use ferrule_daemon::https::{Handler, Reply, Request, reply};
use ferrule_daemon::logging::Chain;
use ferrule_daemon::metrics::{Counter, Family, Histogram, Metrics};
use http::{Method, StatusCode};
use tracing::{info, warn};

use crate::patch::{Answer, answer};
use crate::plan::Plan;
use crate::pod::Pod;
use crate::review::{Review, Verdict, read, write};
use crate::validate::validate;

/// What is behind `/inject` and `/validate`.
pub struct Webhook {
    plan: Arc<Plan>,
    answered: Family<[(&'static str, &'static str); 2], Counter>,
    duration: Histogram,
}

impl Webhook {
    /// Answers by `plan`, and counts in `metrics`.
    pub fn new(plan: Plan, metrics: &Metrics) -> Self {
        Self {
            plan: Arc::new(plan),
            answered: metrics.family(
                "injector_answers",
                "Questions answered, by what was asked and the outcome",
            ),
            duration: metrics.histogram(
                "injector_answer_duration_seconds",
                "From a question's last byte to its answer",
                &[0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.25],
            ),
        }
    }

    fn inject(&self, review: &Review) -> Verdict {
        let pod = Pod::new(&review.object);
        let (namespace, name) = (review.namespace.as_str(), pod.name());
        let (word, verdict) = match answer(&review.object, &self.plan) {
            Answer::Change { patch, warnings } => {
                let word = if patch.is_empty() { "unchanged" } else { "injected" };
                (word, Verdict::Allow { patch, warnings })
            }
            Answer::Leave(leave) => (leave.word(), Verdict::unchanged()),
            Answer::Refuse(refusal) => {
                let message = format!("ferrule: {refusal}");
                warn!(
                    event = "refused",
                    namespace,
                    name,
                    reason = refusal.word(),
                    user = review.user,
                    message
                );
                self.count("pod", refusal.word());
                return Verdict::Refuse { message };
            }
        };
        info!(
            event = "pod",
            namespace,
            name,
            outcome = word,
            dry_run = review.dry_run
        );
        self.count("pod", word);
        verdict
    }

    fn validate(&self, review: &Review) -> Verdict {
        let kind = review.object["kind"].as_str().unwrap_or_default();
        let name = review.object["metadata"]["name"].as_str().unwrap_or_default();
        let namespace = review.namespace.as_str();
        let user = review.user.as_str();
        match validate(&review.object, namespace, &self.plan.trust_domain) {
            Ok(()) => {
                info!(
                    event = "rules",
                    namespace,
                    kind,
                    name,
                    operation = review.operation,
                    user,
                    outcome = "allowed"
                );
                self.count("rules", "allowed");
                Verdict::unchanged()
            }
            Err(problems) => {
                let message = problems.to_string();
                warn!(event = "refused", namespace, kind, name, user, message);
                self.count("rules", "refused");
                Verdict::Refuse { message }
            }
        }
    }

    fn count(&self, what: &'static str, outcome: &'static str) {
        self.answered
            .get_or_create(&[("what", what), ("outcome", outcome)])
            .inc();
    }
}

impl Handler for Webhook {
    async fn answer(&self, request: Request) -> Reply {
        let judge = match request.uri().path() {
            "/inject" => Self::inject,
            "/validate" => Self::validate,
            _ => {
                return plain(
                    StatusCode::NOT_FOUND,
                    "there are /inject and /validate\n".to_owned(),
                );
            }
        };
        if request.method() != Method::POST {
            return plain(
                StatusCode::METHOD_NOT_ALLOWED,
                "questions are sent with POST\n".to_owned(),
            );
        }
        let body = match request.into_body().read().await {
            Ok(body) => body,
            Err(error) => return plain(error.status(), format!("{}\n", Chain(&error))),
        };
        let begun = Instant::now();
        match read(&body) {
            Ok(review) => {
                let verdict = judge(self, &review);
                let body = write(&review.uid, &verdict);
                self.duration.observe(begun.elapsed().as_secs_f64());
                reply(StatusCode::OK, "application/json", body)
            }
            Err(error) => {
                warn!(error = %Chain(&error), "a question that is none");
                plain(StatusCode::BAD_REQUEST, format!("{}\n", Chain(&error)))
            }
        }
    }
}

fn plain(status: StatusCode, text: String) -> Reply {
    reply(status, "text/plain; charset=utf-8", text)
}
