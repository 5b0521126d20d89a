//! Whom a write waits for, and for how long, on a paused clock.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, duplex},
    time::{Instant, sleep},
};

use super::*;

const LIMIT: Duration = Duration::from_mins(1);
/// Bytes that lie between both ends.
const ROOM: usize = 64;

#[tokio::test(start_paused = true)]
async fn a_write_that_nobody_takes_fails() {
    let (near, far) = duplex(ROOM);
    let mut near = Patient::new(near, LIMIT);
    near.write_all(&[0; ROOM]).await.unwrap();
    let began = Instant::now();
    let error = near.write_all(&[0; ROOM]).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    assert!(began.elapsed() < LIMIT * 2);
    drop(far);
}

#[tokio::test(start_paused = true)]
async fn who_takes_a_little_in_time_is_waited_for() {
    let (near, mut far) = duplex(ROOM);
    let mut near = Patient::new(near, LIMIT);
    let began = Instant::now();
    let reader = tokio::spawn(async move {
        let (mut taken, mut space) = (0, [0; 8]);
        loop {
            match far.read(&mut space).await.unwrap() {
                0 => return taken,
                count => taken += count,
            }
            sleep(LIMIT.saturating_sub(Duration::from_secs(1))).await;
        }
    });
    near.write_all(&[0; 1_000]).await.unwrap();
    drop(near);
    assert_eq!(reader.await.unwrap(), 1_000);
    assert!(began.elapsed() > LIMIT * 100, "it was slow");
}

#[tokio::test(start_paused = true)]
async fn who_says_nothing_is_waited_for() {
    let (near, mut far) = duplex(ROOM);
    let mut near = Patient::new(near, LIMIT);
    let speaker = tokio::spawn(async move {
        sleep(LIMIT * 100).await;
        far.write_all(b"at last").await.unwrap();
    });
    let mut space = [0; 7];
    near.read_exact(&mut space).await.unwrap();
    assert_eq!(&space, b"at last");
    speaker.await.unwrap();
}
