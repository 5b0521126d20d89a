//! E-mail against the strict submission server.

use kh_core::port::{Notice, Urgency};
use kh_deliver::{Channel, Mail, MailTls, SendError};

use crate::{
    rig::{Files, notice},
    smtp::{Manner, Smtp},
};

const PASSWORD: &str = "mail-MARKED-password";

fn mail(smtp: &Smtp, files: &Files, tls: MailTls) -> Mail {
    std::fs::write(files.path("ca.pem"), &smtp.ca).unwrap();
    let to = ["ops@acme.example".to_owned(), "on-call@acme.example".to_owned()];
    Mail::new("mail", Urgency::Warning, ("localhost", smtp.address.port(), tls), "keyholder@acme.example", &to)
        .unwrap()
        .with_login("mailer", files.write("password", PASSWORD))
        .trusting(files.path("ca.pem"))
}

#[tokio::test]
async fn a_notice_arrives_over_either_kind_of_tls() {
    for (manner, tls) in [(Manner::Implicit, MailTls::Implicit), (Manner::StartTls, MailTls::StartTls)] {
        let (smtp, files) = (Smtp::start(manner, PASSWORD).await, Files::new());
        let channel = mail(&smtp, &files, tls);
        channel.send(&notice(9, Urgency::Critical)).await.unwrap();
        channel.send(&notice(9, Urgency::Critical)).await.unwrap();
        let taken = smtp.taken.lock().unwrap().clone();
        assert_eq!(taken.len(), 2, "both receivers in one transaction");
        assert!(taken[0].from.contains("<keyholder@acme.example>"));
        assert_eq!(taken[0].to.len(), 2);
        let text = &taken[0].text;
        for line in [
            "Message-ID: <00000000-0000-0000-0000-000000000009@acme.example>",
            "Auto-Submitted: auto-generated",
            "The rotation of acme/prod <waits> for a decision & stands still",
            "Next: keyholder rotate resume acme/prod",
            "Time: 2026-11-21T09:00:00Z",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
        assert!(text.contains("Subject: [keyholder] critical:"), "{text}");
        let in_clear = smtp.in_clear.lock().unwrap().clone();
        assert!(in_clear.iter().all(|line| line.starts_with("EHLO") || line == "STARTTLS"), "{in_clear:?}");
    }
}

#[tokio::test]
async fn names_forge_no_header_and_no_line() {
    let (smtp, files) = (Smtp::start(Manner::Implicit, PASSWORD).await, Files::new());
    let channel = mail(&smtp, &files, MailTls::Implicit);
    let summary = "a\r\nBcc: everybody@acme.example\r\n\r\n.\r\nMAIL FROM:<x@y.example>".to_owned();
    channel.send(&Notice { summary, ..notice(1, Urgency::Critical) }).await.unwrap();
    let taken = smtp.taken.lock().unwrap().clone();
    assert_eq!(taken.len(), 1);
    assert!(
        !taken[0].text.lines().any(|line| line.starts_with("Bcc") || line.starts_with("MAIL")),
        "{}",
        taken[0].text
    );
    let long = Notice { summary: "\u{e4}\u{1f511} ".repeat(400), ..notice(2, Urgency::Critical) };
    channel.send(&long).await.unwrap();
}

#[tokio::test]
async fn without_tls_nothing_is_sent() {
    let (smtp, files) = (Smtp::start(Manner::Stripped, PASSWORD).await, Files::new());
    let error = mail(&smtp, &files, MailTls::StartTls).send(&notice(1, Urgency::Critical)).await.unwrap_err();
    assert!(matches!(&error, SendError::Refused(reason) if reason.contains("does not offer")), "{error:?}");
    let (smtp_two, other) = (Smtp::start(Manner::StartTls, PASSWORD).await, Files::new());
    let channel = mail(&smtp_two, &other, MailTls::StartTls);
    std::fs::write(other.path("ca.pem"), &smtp.ca).unwrap();
    let error = channel.send(&notice(1, Urgency::Critical)).await.unwrap_err();
    assert!(matches!(&error, SendError::Transient { .. }), "another authority: {error:?}");
    for smtp in [&smtp, &smtp_two] {
        assert!(smtp.taken.lock().unwrap().is_empty());
        let in_clear = smtp.in_clear.lock().unwrap().join("\n");
        assert!(!in_clear.contains("AUTH") && !in_clear.contains("MAIL"), "{in_clear}");
    }
}

#[tokio::test]
async fn a_refused_receiver_costs_nobody_else_the_notice() {
    const OPS: &str = "RCPT TO:<ops@acme.example>";
    const ON_CALL: &str = "RCPT TO:<on-call@acme.example>";
    let (smtp, files) = (Smtp::start(Manner::Implicit, PASSWORD).await, Files::new());
    let channel = mail(&smtp, &files, MailTls::Implicit);
    let say = |who: &str, answer: &str| {
        smtp.receivers.lock().unwrap().insert(format!("{who}@acme.example"), answer.to_owned());
    };
    let took = || smtp.taken.lock().unwrap().iter().flat_map(|taken| taken.to.clone()).collect::<Vec<_>>();
    say("ops", "550 5.1.1 who is that");
    channel.send(&notice(1, Urgency::Critical)).await.unwrap();
    assert_eq!(took(), [ON_CALL]);

    // who is put off is tried again, and nobody else
    say("ops", "451 4.7.1 later");
    for _ in 0..2 {
        let error = channel.send(&notice(2, Urgency::Critical)).await.unwrap_err();
        assert_eq!(error, SendError::transient("the mail server put the message off with 451"));
    }
    say("ops", "250 ok");
    channel.send(&notice(2, Urgency::Critical)).await.unwrap();
    assert_eq!(took(), [ON_CALL, ON_CALL, OPS]);
    let id = "Message-ID: <00000000-0000-0000-0000-000000000002@acme.example>";
    assert!(smtp.taken.lock().unwrap().iter().skip(1).all(|taken| taken.text.contains(id)));

    // one is refused for good while the other one is put off
    say("ops", "550 5.1.1 who is that");
    say("on-call", "451 4.7.1 later");
    assert!(matches!(channel.send(&notice(3, Urgency::Critical)).await, Err(SendError::Transient { .. })));
    say("on-call", "550 5.1.1 who is that");
    let refused = Err(SendError::Refused("the mail server refused the message with 550".to_owned()));
    assert_eq!(channel.send(&notice(3, Urgency::Critical)).await, refused);
    assert_eq!(channel.send(&notice(4, Urgency::Critical)).await, refused);
    assert_eq!(took().len(), 3);
}

#[tokio::test]
async fn what_the_servers_answers_mean() {
    let (smtp, files) = (Smtp::start(Manner::Implicit, PASSWORD).await, Files::new());
    let channel = mail(&smtp, &files, MailTls::Implicit);
    let set = |verdict: &str| verdict.clone_into(&mut smtp.verdict.lock().unwrap());
    set("451 4.3.0 try later");
    let error = channel.send(&notice(1, Urgency::Critical)).await.unwrap_err();
    assert_eq!(error, SendError::transient("the mail server put the message off with 451"));
    set("554 5.7.1 no mail with SECRET words");
    let error = channel.send(&notice(1, Urgency::Critical)).await.unwrap_err();
    assert_eq!(error, SendError::Refused("the mail server refused the message with 554".to_owned()));
    files.write("password", "another-MARKED-password");
    // the server repeats what it was sent
    let error = channel.send(&notice(1, Urgency::Critical)).await.unwrap_err();
    assert_eq!(error, SendError::Refused("the mail server refused the message with 535".to_owned()));
    assert!(smtp.taken.lock().unwrap().is_empty());
}

#[test]
fn addresses() {
    let server = ("mail.example", 465, MailTls::Implicit);
    let of = |from: &str, to: &[&str]| {
        let to: Vec<String> = to.iter().map(|text| (*text).to_owned()).collect();
        Mail::new("m", Urgency::Info, server, from, &to)
    };
    assert!(of("a@b.example", &["c@d.example"]).is_ok());
    assert!(of("a@b.example", &[]).is_err());
    let plain =
        |host| Mail::new("m", Urgency::Info, (host, 25, MailTls::Plain), "a@b.example", &["c@d.example".to_owned()]);
    assert!(plain("localhost").is_ok() && plain("127.0.0.1").is_ok() && plain("::1").is_ok());
    assert!(plain("127.0.0.1.example").is_err() && plain("mail.example").is_err());
    assert!(of("a", &["c@d.example"]).is_err());
    assert!(of("a@b.example", &["c@d.example\r\nBcc: x@y.example"]).is_err());
    assert!(of("a@b.example", &["c@d.example"; 21]).is_err());
}
