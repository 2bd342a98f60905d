//! What a role does beside its loop and can't be without: should it panic, the role ends with that, and the process with the
//! role, instead of going on as half of itself.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use anyhow::anyhow;
use futures_util::FutureExt;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;

/// Starts the work of one instance that goes on beside its loop. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Beside(Arc<watch::Sender<Option<&'static str>>>);

/// Hears of the first panic in it. There is one for each instance, and it is not to be left unused.
#[derive(Debug)]
#[must_use = "nobody notices a panic without it"]
pub(crate) struct Loss(watch::Receiver<Option<&'static str>>);

impl Beside {
    pub(crate) fn new() -> (Self, Loss) {
        let (failed, heard) = watch::channel(None);
        (Self(Arc::new(failed)), Loss(heard))
    }

    /// Starts some of it. Joins to `None` if it panics, which the hook has logged by then.
    pub(crate) fn spawn<T: Send + 'static>(
        &self,
        tasks: &TaskTracker,
        what: &'static str,
        work: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<Option<T>> {
        let failed = Arc::clone(&self.0);
        tasks.spawn(async move {
            // Nothing of it is used any more after a panic.
            let done = AssertUnwindSafe(work).catch_unwind().await.ok();
            if done.is_none() {
                failed.send_replace(Some(what));
            }
            done
        })
    }
}

impl Loss {
    /// Runs the loop to its end, or until some of what goes on beside it has panicked.
    pub(crate) async fn ends(mut self, role: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
        tokio::select! {
            biased;
            Ok(what) = self.0.wait_for(Option::is_some) => {
                Err(anyhow!("{} panicked, and nothing is to run without it", what.unwrap_or_default()))
            }
            ended = role => ended,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    #[tokio::test]
    async fn a_role_ends_with_what_it_can_not_be_without() {
        let ((beside, loss), tasks) = (Beside::new(), TaskTracker::new());
        let done = beside.spawn(&tasks, "a count", async { 7 });
        assert_eq!(done.await.unwrap(), Some(7));
        loss.ends(async { Ok(()) }).await.expect("it has only ended");
        let (beside, loss) = Beside::new();
        let lost = beside.spawn(&tasks, "the retention", async { panic!("ouch") });
        assert_eq!(lost.await.unwrap(), None::<()>);
        let error = loss.ends(pending()).await.unwrap_err().to_string();
        assert!(error.starts_with("the retention panicked"), "{error}");
    }

    #[tokio::test]
    async fn a_panic_is_noticed_while_the_role_runs() {
        let ((beside, loss), tasks) = (Beside::new(), TaskTracker::new());
        let (begin, begun) = tokio::sync::oneshot::channel::<()>();
        beside.spawn(&tasks, "the flow", async move {
            begun.await.unwrap();
            panic!("ouch");
        });
        let (ended, ()) = tokio::join!(loss.ends(pending()), async { begin.send(()).unwrap() });
        assert!(ended.is_err());
    }
}
