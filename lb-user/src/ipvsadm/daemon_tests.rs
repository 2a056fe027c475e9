//! ipvsadm against a daemon in this process, on the in-memory datapath: what the API's answers become.

use std::path::Path;
use std::thread;

use tokio::net::UnixListener;

use super::Front;
use super::daemon::{DaemonIpvs, Place};
use super::names::Table;
use crate::api::server;
use crate::daemon::testing::{TempDir, spawn};
use crate::daemon::{Message, SOCKET};
use crate::datapath::fake::FakeDatapath;

/// Types a command line, with its input; all that is printed, and the exit status if it is not 0.
fn typed(run_dir: &Path, line: &str, input: &str) -> String {
    let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
    let place = Place {
        socket: run_dir.join(SOCKET),
        run_dir: run_dir.to_owned(),
        netns: None,
    };
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let status = Front {
        program: "ipvsadm",
        names: &Table::default(),
        ipvs: &mut DaemonIpvs::new(place),
        input: &mut input.as_bytes(),
        out: &mut out,
        err: &mut err,
    }
    .call(&words);
    out.append(&mut err);
    let mut text = String::from_utf8(out).unwrap();
    if status != 0 {
        text.push_str(&format!("= {status}\n"));
    }
    text
}

/// Runs `test` beside a daemon, with its run directory.
async fn beside_a_daemon(test: impl FnOnce(&Path) + Send + 'static) {
    let dir = TempDir::new();
    let (handle, messages) = spawn(FakeDatapath::new(), dir.path());
    let listener = UnixListener::bind(dir.path().join(SOCKET)).unwrap();
    let served = tokio::spawn(server::serve(listener, handle));
    let path = dir.path().to_owned();
    let (done, ended) = tokio::sync::oneshot::channel();
    let tester = thread::spawn(move || {
        test(&path);
        let _ = done.send(());
    });
    let passed = ended.await.is_ok();
    served.abort();
    let _ = messages.send(Message::Stop);
    assert!(tester.join().is_ok() && passed);
}

#[tokio::test]
async fn commands_become_requests_and_answers_become_errors() {
    beside_a_daemon(|dir| {
        for (line, printed) in [
            ("-A -t 10.0.0.1:80 -s rr", ""),
            ("-A -t 10.0.0.1:80 -s rr", "Service already exists\n= 255\n"),
            ("-A -t 10.0.0.1:80 -s nosuch", "Service already exists\n= 255\n"),
            (
                "-A -t 10.0.0.1:81 -s nosuch",
                "Scheduler or persistence engine not found\n= 255\n",
            ),
            ("-E -t 10.0.0.1:81 -s rr", "No such service\n= 255\n"),
            ("-E -t 10.0.0.1:81 -s nosuch", "No such service\n= 255\n"),
            (
                "-E -t 10.0.0.1:80 -s nosuch",
                "Scheduler or persistence engine not found\n= 255\n",
            ),
            ("-D -t 10.0.0.1:81", "No such service\n= 255\n"),
            ("-D -t [fd00::1]:81", "No such service\n= 255\n"),
            ("-Z -t 10.0.0.1:81", "No such service\n= 255\n"),
            ("-L -t 10.0.0.1:81", "No such service\n= 1\n"),
            ("-a -t 10.0.0.1:80 -r 10.0.1.1:8080 -m -w 3", ""),
            ("-a -t 10.0.0.1:80 -r 10.0.1.2 -x 10 -y 5", ""),
            (
                "-a -t 10.0.0.1:80 -r 10.0.1.2 -m",
                "Destination already exists\n= 255\n",
            ),
            ("-a -t 10.0.0.1:81 -r 10.0.1.2", "Service not defined\n= 255\n"),
            ("-a -t 10.0.0.1:81 -r 10.0.1.2 -y 1", "Service not defined\n= 255\n"),
            ("-e -t 10.0.0.1:81 -r 10.0.1.2", "Service not defined\n= 255\n"),
            ("-d -t 10.0.0.1:81 -r 10.0.1.2", "Service not defined\n= 255\n"),
            ("-e -t 10.0.0.1:80 -r 10.0.1.9", "No such destination\n= 255\n"),
            ("-d -t 10.0.0.1:80 -r 10.0.1.9", "No such destination\n= 255\n"),
            (
                "-a -t 10.0.0.1:80 -r 10.0.1.9 -y 1",
                "Numerical result out of range\n= 255\n",
            ),
            (
                "-a -t 10.0.0.1:80 -r 224.0.0.1",
                "Invalid operation.  Possibly wrong module version, address not unicast, ...\n= 255\n",
            ),
            (
                "-Ln",
                "IP Virtual Server version 1.2.1 (size=4096)\n\
                 Prot LocalAddress:Port Scheduler Flags\n  \
                   -> RemoteAddress:Port           Forward Weight ActiveConn InActConn\n\
                 TCP  10.0.0.1:80 rr\n  \
                   -> 10.0.1.1:8080                Masq    3      0          0         \n  \
                   -> 10.0.1.2:80                  Route   1      0          0         \n",
            ),
            ("-e -t 10.0.0.1:80 -r 10.0.1.2 -m -w 0", ""),
            ("-d -t 10.0.0.1:80 -r 10.0.1.1:8080", ""),
            ("-E -t 10.0.0.1:80 -s wrr -p 90 -M 255.255.0.0 -b flag-1,flag-3", ""),
            ("-A -u 10.0.0.1:53 -s rr -o", ""),
            ("-A -f 7 -s rr", ""),
            ("-a -f 7 -r 10.0.1.2", ""),
            (
                "-S -n",
                "-A -t 10.0.0.1:80 -s wrr -p 90 -M 255.255.0.0 -b flag-1,flag-3\n\
                 -a -t 10.0.0.1:80 -r 10.0.1.2:80 -m -w 0\n\
                 -A -u 10.0.0.1:53 -s rr -o\n\
                 -A -f 7 -s rr\n\
                 -a -f 7 -r 10.0.1.2:0 -g -w 1\n",
            ),
            // All that is not named is at its default again.
            ("-E -t 10.0.0.1:80 -s rr", ""),
            ("-Z -t 10.0.0.1:80", ""),
            ("-Z", ""),
            (
                "-L -n -t 10.0.0.1:80 --thresholds",
                "Prot LocalAddress:Port            Uthreshold Lthreshold ActiveConn InActConn \n  \
                   -> RemoteAddress:Port\n\
                 TCP  10.0.0.1:80 rr\n  \
                   -> 10.0.1.2:80                  0          0          0          0         \n",
            ),
            ("--set 60 0 7", ""),
            ("--set 0 0 0", ""),
            ("-L --timeout", "Timeout (tcp tcpfin udp): 60 120 7\n"),
            ("-L --daemon", ""),
            ("--stop-daemon master", "No daemon is running\n= 255\n"),
            ("-C", ""),
            ("-S", ""),
        ] {
            assert_eq!(typed(dir, line, ""), printed, "{line}");
        }
    })
    .await;
}

#[tokio::test]
async fn what_bpvs_cannot_do_is_refused_and_nothing_else_said() {
    beside_a_daemon(|dir| {
        assert_eq!(typed(dir, "-A -t 10.0.0.1:80 -s rr", ""), "");
        for line in [
            "-A -t [fd00::1]:80 -s rr",
            "-A --sctp-service 10.0.0.1:80 -s rr",
            "-A -f 9 -6 -s rr",
            "-A -u 10.0.0.1:5060 -s rr --pe sip",
            "-A -t 224.0.0.1:80 -s rr",
            "-a -t 10.0.0.1:80 -r 10.0.1.1 -i",
            "-a -t 10.0.0.1:80 -r 10.0.1.1 -i --tun-type gre",
            "--start-daemon master",
        ] {
            let printed = typed(dir, line, "");
            assert!(printed.starts_with("bpvs: "), "{line}: {printed}");
            assert!(printed.ends_with("\n= 3\n"), "{line}: {printed}");
            assert_eq!(printed.lines().count(), 2, "{line}: {printed}");
        }
        // A line that was refused is not forgotten, whatever follows it.
        let lines = "-A -t [fd00::1]:80 -s rr\n-A -t 10.0.0.2:80 -s rr\n";
        let printed = typed(dir, "-R", lines);
        assert!(printed.ends_with("= 3\n"), "{printed}");
        assert_eq!(
            typed(dir, "-S -n", ""),
            "-A -t 10.0.0.1:80 -s rr\n-A -t 10.0.0.2:80 -s rr\n"
        );
    })
    .await;
}

#[tokio::test]
async fn lines_of_a_restore_are_carried_out_each_by_itself_and_in_turn() {
    beside_a_daemon(|dir| {
        let lines = "-A -t 10.0.0.1:80 -s rr\n\
                     -a -t 10.0.0.1:80 -r 10.0.1.1 -m\n\
                     -a -t 10.0.0.1:80 -r 10.0.1.1 -m\n\
                     -a -t 10.0.0.9:80 -r 10.0.1.1 -m\n\
                     -e -t 10.0.0.1:80 -r 10.0.1.7 -m\n\
                     -A -t 10.0.0.1:80 -s nosuch\n\
                     -A -t 10.0.0.2:80 -s nosuch\n\
                     -S -n\n\
                     -d -t 10.0.0.1:80 -r 10.0.1.1\n\
                     -A -t 10.0.0.1:80 -s rr\n\
                     -A -u 10.0.0.2:53 -s rr";
        let said = "-A -t 10.0.0.1:80 -s rr\n\
                    -a -t 10.0.0.1:80 -r 10.0.1.1:80 -m -w 1\n\
                    Destination already exists\n\
                    Service not defined\n\
                    No such destination\n\
                    Service already exists\n\
                    Scheduler or persistence engine not found\n\
                    Service already exists\n";
        // The last line is carried out, so that all is well; what goes to the other output stands first here.
        assert_eq!(typed(dir, "-R", lines), said);
        assert_eq!(
            typed(dir, "-S -n", ""),
            "-A -t 10.0.0.1:80 -s rr\n-A -u 10.0.0.2:53 -s rr\n"
        );
        // A line that ends the program: those before it are carried out, those behind it are not.
        let lines = "-D -t 10.0.0.1:80\n-A -t 10.0.0.7:80 -s rr -q\n-A -t 10.0.0.8:80 -s rr\n";
        let printed = typed(dir, "-R", lines);
        assert!(printed.starts_with("-q: unknown option\n"), "{printed}");
        assert_eq!(typed(dir, "-S -n", ""), "-A -u 10.0.0.2:53 -s rr\n");
    })
    .await;
}

#[test]
fn without_a_daemon_one_line_says_how_to_start_it() {
    let dir = TempDir::new();
    let printed = typed(dir.path(), "-Ln", "");
    assert!(printed.contains("start it with `bpvs run`"), "{printed}");
    assert!(printed.contains("BPVS_AUTOSTART=1"), "{printed}");
    assert_eq!(printed.lines().count(), 2, "{printed}");
    assert!(printed.ends_with("= 2\n"), "{printed}");
    // What needs no daemon asks for none.
    assert!(typed(dir.path(), "-v", "").starts_with("ipvsadm v1.31 "));
    assert_eq!(
        typed(dir.path(), "-L -q", ""),
        "-q: unknown option\n= 255\n"
    );
}
