//! What counts as taking an answer. That streams end by it is shown over real connections.

use http_body_util::BodyExt;

use super::*;

#[test]
fn a_caller_goes_on_that_has_nothing_to_take_or_takes_enough() {
    const LEAST: usize = 100;
    // bytes that are offered next, and whether the caller goes on while they wait
    for (offers, expected) in [
        (&[0][..], &[true][..]),
        (&[1], &[false]),
        (&[1, 0], &[false, true]),
        (&[100, 1, 1], &[false, true, false]),
        (&[50, 49, 1, 1], &[false, false, false, true]),
        (&[99, 0, 1, 99, 1], &[false, true, false, false, true]),
    ] {
        let offer = Offer::default();
        let seen: Vec<bool> = offers
            .iter()
            .map(|bytes| {
                offer.next(*bytes);
                offer.goes_on(LEAST)
            })
            .collect();
        assert_eq!(seen, expected, "{offers:?}");
    }
}

#[tokio::test]
async fn an_answer_is_offered_whole_and_in_pieces() {
    for (length, pieces) in [(0, 0), (1, 1), (PIECE, 1), (PIECE + 1, 2), (3 * PIECE, 3)] {
        let sent = Bytes::from((0..length).map(|index| u8::try_from(index % 251).unwrap()).collect::<Vec<u8>>());
        let mut body = Offered::new(ReplyBody::whole(sent.clone()));
        let reading = async move {
            let (mut read, mut count) = (Vec::new(), 0);
            while !body.is_end_stream() {
                assert_eq!(body.size_hint().exact(), Some((length - read.len()) as u64));
                let piece = body.frame().await.unwrap().unwrap().into_data().unwrap();
                assert!(piece.len() <= PIECE);
                read.extend_from_slice(&piece);
                count += 1;
            }
            assert!(body.frame().await.is_none());
            (read, count)
        };
        assert_eq!(OFFER.scope(Offer::default(), reading).await, (sent.to_vec(), pieces), "{length}");
    }
}
