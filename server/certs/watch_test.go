package certs

import (
	"crypto/tls"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hotsvc/svc/configsrc"
	"github.com/hotsvc/svc/internal/testcert"
)

// Certificate and key are replaced one after the other: between the two there is
// no pair, the old one stays, and nobody is warned.
func TestRotationInSteps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := newAuthority("authority")
		one, two := ca.config("one"), ca.config("two")
		d := newDisk(one)
		var log journal
		s := d.follow(t, Options{Logger: log.logger()})

		d.change(Config{Cert: two.Cert, Key: one.Key})
		time.Sleep(time.Second)
		wantSubject(t, s, "one")
		d.change(Config{Key: two.Key}) // the certificate is renamed away for a moment
		time.Sleep(500 * time.Millisecond)
		wantSubject(t, s, "one")
		d.change(two)
		time.Sleep(time.Second)
		wantSubject(t, s, "two")
		log.want(t, 1, logSwap)
		log.want(t, 1, "") // and nothing else
	})
}

// Without an event a retry finds the second half.
func TestRotationWithoutEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := newAuthority("authority")
		one, two := ca.config("one"), ca.config("two")
		d := newDisk(one)
		s := d.follow(t, Options{})
		time.Sleep(time.Second)

		d.put(two)
		time.Sleep(reread + time.Second)
		wantSubject(t, s, "two")
		d.change(Config{Cert: one.Cert, Key: two.Key})
		time.Sleep(time.Second)
		d.put(one)
		time.Sleep(2 * time.Second)
		wantSubject(t, s, "one")
	})
}

// Whatever happens to the files, what was in force stays, and each problem is
// told once.
func TestBadFilesKeepTheLastGood(t *testing.T) {
	ca := newAuthority("authority")
	_, otherKey := testcert.PEM(ca.Issue("other"))
	tests := []struct {
		name, where string
		edit        func(*Config)
	}{
		{"certificate missing", "read cert: ", func(c *Config) { c.Cert = "" }},
		{"key missing", "read key: ", func(c *Config) { c.Key = "" }},
		{"client CA missing", "read client_ca: ", func(c *Config) { c.ClientCA = "" }},
		{"certificate blank", "cert: the file is empty", func(c *Config) { c.Cert = "\n" }},
		{"client CA blank", "client_ca: the file is empty", func(c *Config) { c.ClientCA = "\n" }},
		{"client CA without certificate", "client_ca: the file holds no PEM", func(c *Config) { c.ClientCA = "none" }},
		{"key of another", "key: does not belong", func(c *Config) { c.Key = configsrc.Secret(otherKey) }},
		{"expired", "cert: expired on", func(c *Config) {
			*c = Config{ClientCA: c.ClientCA}
			old := newAuthority("authority").config("old", expired)
			c.Cert, c.Key = old.Cert, old.Key
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				good := newAuthority("authority").config("good")
				good.ClientCA = ca.PEM
				d := newDisk(good)
				var log journal
				s := d.follow(t, Options{Mutual: true, Logger: log.logger()})
				before := s.Load()

				bad := good
				test.edit(&bad)
				d.change(bad)
				time.Sleep(2 * time.Second)
				log.want(t, 0, logRefused)
				time.Sleep(10 * time.Minute)
				log.want(t, 1, logRefused)
				log.want(t, 1, test.where)
				if s.Load() != before || s.Load().clientAuth != tls.RequireAndVerifyClientCert {
					t.Error("the material in force has changed")
				}
				for _, line := range log.lines("") {
					noContent(t, line, bad.Cert, string(bad.Key), bad.ClientCA)
				}
				// Half a minute between tries, three files each.
				d.mu.Lock()
				if d.reads > 3*40 {
					t.Errorf("%d reads in 10 minutes", d.reads)
				}
				d.mu.Unlock()

				d.change(good)
				time.Sleep(time.Second)
				log.want(t, 1, logGood)
				log.want(t, 0, logSwap)
				if s.Load() != before {
					t.Error("equal content was swapped")
				}
			})
		})
	}
}

// Another problem is another warning, although the files were never good between.
func TestEachProblemIsToldOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		good := newAuthority("authority").config("good")
		d := newDisk(good)
		var log journal
		s := d.follow(t, Options{Logger: log.logger()})
		d.change(Config{Key: good.Key})
		time.Sleep(time.Minute)
		d.change(Config{Cert: good.Cert, Key: "x"})
		time.Sleep(time.Minute)
		log.want(t, 1, "read cert: ")
		log.want(t, 1, "key: the file holds no PEM block")
		log.want(t, 2, logRefused)
		wantSubject(t, s, "good")
	})
}

// A file that is half written may look whole: a chain that ends after the leaf.
func TestHalfWrittenFileIsNotUsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := newAuthority("authority")
		one, two := ca.config("one"), ca.config("two")
		d := newDisk(one)
		var log journal
		s := d.follow(t, Options{Logger: log.logger()})
		time.Sleep(time.Second)

		d.change(two)
		time.Sleep(settle + settle/2) // it was read once
		whole := two
		whole.Cert += ca.PEM
		d.change(whole)
		time.Sleep(time.Second)
		if n := len(s.Load().certificate[0].Certificate); n != 2 {
			t.Errorf("%d certificates in the chain, want 2", n)
		}
		log.want(t, 1, logSwap)
	})
}

// A certificate from the future comes into force when its time has come.
func TestFutureCertificateWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := newAuthority("authority")
		d := newDisk(ca.config("one"))
		var log journal
		s := d.follow(t, Options{Logger: log.logger()})
		d.change(ca.config("two", future))
		time.Sleep(59 * time.Minute)
		wantSubject(t, s, "one")
		log.want(t, 1, "cert: is not valid before")
		time.Sleep(2 * time.Minute)
		wantSubject(t, s, "two")
	})
}

// An expired certificate does not keep an authority from being taken away.
func TestClientCAChangesUnderExpiredCertificate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca, other := newAuthority("authority"), newAuthority("other")
		c := ca.config("old", expired)
		c.ClientCA = ca.PEM + other.PEM
		d := newDisk(c)
		s := d.follow(t, Options{Mutual: true, AllowOutdated: true})
		before := s.Load()
		c.ClientCA = other.PEM
		d.change(c)
		time.Sleep(time.Second)
		if s.Load() == before || !s.Load().clientCAs.Equal(other.Pool()) {
			t.Error("the authorities are those of before")
		}
	})
}

// Without a watch the files are read again, and that is said once.
func TestNoWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := newAuthority("authority")
		d := newDisk(ca.config("one"))
		d.watchErr = errors.New("no more watches")
		var log journal
		s := d.follow(t, Options{Logger: log.logger()})
		d.put(ca.config("two"))
		time.Sleep(time.Hour)
		wantSubject(t, s, "two")
		log.want(t, 1, "no more watches")
	})
}

func TestFailingWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := newAuthority("authority")
		d := newDisk(ca.config("one"))
		var log journal
		sys := d.system()
		sys.notify = func() (notifier, error) {
			return notifier{
				follow: func([]string) error { return errors.New("no space for a watch") },
				close:  func() {},
			}, nil
		}
		s, err := open(t.Context(), onDisk(false), Options{Logger: log.logger()}, sys)
		must(t, err)
		d.put(ca.config("two"))
		time.Sleep(time.Hour)
		wantSubject(t, s, "two")
		log.want(t, 1, "no space for a watch")
		must(t, s.Close())
	})
}
