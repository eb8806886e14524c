//! The target that the environment names.
#![cfg(feature = "embedded")]

use std::path::Path;
use std::time::Duration;

use kafka_batcher_testkit::target::Target;

const LONG: Duration = Duration::from_secs(20);

#[tokio::test]
async fn topics_are_made_and_read_on_whatever_the_environment_names() {
    let target = Target::from_env().unwrap();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_micros();
    let topic = format!("testkit-target-{now}");
    target.create_topic(&topic, 3).await.unwrap();
    assert!(target.read(&topic, LONG).await.unwrap().is_empty());
    assert!(target.create_topic(&topic, 3).await.is_err(), "it exists");
    match target.embedded() {
        Some(_) => {
            assert!(target.grow_topic(&topic, 4).await.is_err(), "it can't");
            assert_eq!(target.row(), "plaintext");
        }
        None => {
            target.grow_topic(&topic, 4).await.unwrap();
            assert!(target.grow_topic(&topic, 2).await.is_err(), "topics don't shrink");
        }
    }
}

#[test]
fn without_settings_it_is_the_embedded_broker() {
    let target = Target::embedded_broker().unwrap();
    assert_eq!(target.embedded().unwrap().bootstrap(), target.bootstrap());
    assert_eq!(target.config().endpoints().unwrap().join(","), target.bootstrap());
    assert!(!target.is_secured() && target.refused().is_empty() && target.secrets().is_empty());
}

#[test]
fn a_row_without_a_file_is_an_error() {
    let error = Target::new("tls", None, None).unwrap_err().to_string();
    assert!(error.contains("KAFKA_BATCHER_SECURITY"), "{error}");
    let error = Target::new("tls", None, Some(Path::new("/no/such/file"))).unwrap_err().to_string();
    assert!(error.contains("/no/such/file"), "{error}");
}
