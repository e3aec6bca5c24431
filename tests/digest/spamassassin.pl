# SpamAssassin's Perl digester as a process: messages in, digests out, until its input ends.
#
# A request is a message's length, 4 bytes big-endian, and the message. An answer is a line: the digest, or `error` and what
# the digester died of.
use strict;
use warnings;
use Mail::SpamAssassin;
use Mail::SpamAssassin::PerMsgStatus;
use Mail::SpamAssassin::Pyzor::Digest;

binmode STDIN;
binmode STDOUT;
$| = 1;
# It warns of what it cannot decode.
$SIG{__WARN__} = sub { };

my $spamassassin = Mail::SpamAssassin->new({
    dont_copy_prefs => 1, local_tests_only => 1, site_rules_filename => '/dev/null', rules_filename => '/dev/null',
    userprefs_filename => '/dev/null',
});

sub digest {
    my $message = $spamassassin->parse($_[0]);
    my $status = Mail::SpamAssassin::PerMsgStatus->new($spamassassin, $message);
    # The digester takes what the body's rules have had decoded and rendered, and in SpamAssassin they come first.
    $status->get_decoded_body_text_array();
    $status->get_decoded_stripped_body_text_array();
    my $digest = Mail::SpamAssassin::Pyzor::Digest::get($status);
    $status->finish();
    $message->finish();
    return $digest;
}

while (read(STDIN, my $head, 4) == 4) {
    my $length = unpack('N', $head);
    my $message = '';
    read(STDIN, $message, $length) == $length or last;
    my $digest = eval { digest($message) };
    if (!defined $digest) {
        my $error = $@;
        $error =~ s/\s+/ /g;
        $digest = "error $error";
    }
    print "$digest\n";
}
