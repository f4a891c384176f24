package admin

import (
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Access is what the listeners on TCP ask for. It is read anew for each
// connection and each request, so that a change of the section takes effect on
// connections that are open. Nobody may change one that was handed out.
//
// What Config names must be here too: with a certificate in Config and no TLS,
// or client CAs in Config and no VerifyClient, every request is refused.
type Access struct {
	Config *Config
	// TLS serves Config.TLS.Cert; nil is plaintext. It asks clients for a
	// certificate where VerifyClient is set. It may be another one each time.
	TLS *tls.Config
	// Names are the DNS names of the certificate in force, wildcards included:
	// requests may call this service by them.
	Names []string
	// VerifyClient checks the certificates that a client showed, its own first,
	// by the CAs of Config.TLS.ClientCA that are in force now. It is called for
	// each request, also on a connection whose handshake was under others, and
	// must not block. [VerifyClientBy] makes one. nil: none is asked for.
	VerifyClient func(chain []*x509.Certificate) error
}

// VerifyClientBy returns a func for Access.VerifyClient: the first certificate
// must be for client authentication, valid now, and signed by one of roots,
// directly or through the others of the chain.
func VerifyClientBy(roots *x509.CertPool) func(chain []*x509.Certificate) error {
	return func(chain []*x509.Certificate) error {
		if len(chain) == 0 {
			return errors.New("verify client certificate: there is none")
		}
		o := x509.VerifyOptions{
			Roots: roots, Intermediates: x509.NewCertPool(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		}
		for _, c := range chain[1:] {
			o.Intermediates.AddCert(c)
		}
		if _, err := chain[0].Verify(o); err != nil {
			return fmt.Errorf("verify client certificate: %w", err)
		}
		return nil
	}
}

// whole tells whether all that the config asks for is there to be asked for. A
// security input that could not be had is never left out.
func (a *Access) whole() bool {
	return a != nil && a.Config != nil &&
		(a.TLS != nil || a.Config.TLS == TLS{}) &&
		(a.VerifyClient != nil || a.Config.TLS.ClientCA == "") &&
		(a.VerifyClient == nil || a.TLS != nil)
}

// guard lets through what [Access] allows. It stands before the mux, so that a
// route cannot be missed.
type guard struct {
	next     http.Handler
	access   func() *Access
	log      *slog.Logger
	attempts attempts
}

var (
	errHost        = &StatusError{http.StatusForbidden, errors.New("the Host header names no host of this service")}
	errTarget      = &StatusError{http.StatusForbidden, errors.New("the request target must be a path")}
	errPlaintext   = &StatusError{http.StatusForbidden, errors.New("this listener is served with TLS now: connect again")}
	errCredentials = &StatusError{http.StatusUnauthorized, errors.New("valid credentials are needed")}
	errAttempts    = &StatusError{http.StatusTooManyRequests, errors.New("too many attempts with invalid credentials")}
)

// newGuard makes the handler for TCP. log gets a line for each attempt with
// invalid credentials that was not rate-limited.
func newGuard(next http.Handler, access func() *Access, log *slog.Logger) http.Handler {
	g := &guard{next: next, access: access, log: log}
	g.attempts.clients = map[netip.Prefix]*failures{}
	return secure(g)
}

func (g *guard) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a := g.access()
	if err := checkHost(a, r); err != nil {
		// Of a connection that is of no more use, too.
		w.Header().Set("Connection", "close")
		writeError(w, err)
		return
	}
	if err := checkOrigin(r); err != nil {
		writeError(w, err)
		return
	}
	client, now := clientPrefix(r.RemoteAddr), time.Now()
	if wait := g.attempts.wait(client, now); wait > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(wait.Seconds()))))
		writeError(w, errAttempts)
		return
	}
	if reason := a.refusal(r); reason != "" {
		g.attempts.fail(client, now)
		g.log.WarnContext(r.Context(), "refused a request to the operator's listener", "client", r.RemoteAddr, "reason", reason)
		// One answer for all reasons: which of them it was helps to guess.
		w.Header().Set("WWW-Authenticate", "Bearer")
		writeError(w, errCredentials)
		return
	}
	g.next.ServeHTTP(w, r)
}

// checkHost refuses requests that were meant for somebody else.
func checkHost(a *Access, r *http.Request) error {
	switch {
	case a != nil && a.TLS != nil && r.TLS == nil:
		// It was opened before TLS was switched on.
		return errPlaintext
	case !strings.HasPrefix(r.RequestURI, "/"):
		// The absolute form, which hides the Host header, and "*".
		return errTarget
	}
	host, ok := splitHost(r.Host)
	if !ok || !a.knows(host) {
		return errHost
	}
	return nil
}

// splitHost returns the host of a Host header; false for what is no host, or
// has a port that is none.
func splitHost(header string) (string, bool) {
	host, port, err := net.SplitHostPort(header)
	if err != nil {
		if host, port, err = net.SplitHostPort(header + ":0"); err != nil {
			return "", false
		}
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return "", false
	}
	ip, err := netip.ParseAddr(host)
	if strings.HasPrefix(header, "[") {
		return host, err == nil && ip.Is6()
	}
	return host, err == nil || isHostName(host)
}

// knows tells whether this service may be called by the name. No page can make
// a browser send an IP address, or localhost, for a name of its own.
func (a *Access) knows(host string) bool {
	if _, err := netip.ParseAddr(host); err == nil || strings.EqualFold(host, "localhost") {
		return true
	}
	if a == nil || a.Config == nil {
		return false
	}
	same := func(name string) bool { return strings.EqualFold(name, host) }
	if slices.ContainsFunc(a.Config.Hosts, same) {
		return true
	}
	if slices.ContainsFunc(a.Config.Listen, func(address string) bool {
		name, _, err := net.SplitHostPort(address)
		return err == nil && same(name)
	}) {
		return true
	}
	// A wildcard stands for one label.
	_, parent, _ := strings.Cut(host, ".")
	return slices.ContainsFunc(a.Names, func(name string) bool {
		return same(name) || parent != "" && strings.EqualFold(name, "*."+parent)
	})
}

// refusal says, for the log, why the credentials of a request do not do; empty:
// they do. Everything that is configured is asked for.
func (a *Access) refusal(r *http.Request) string {
	if !a.whole() || a.Config.Token == "" && a.VerifyClient == nil {
		return "no credentials are in force"
	}
	if a.VerifyClient != nil {
		if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
			return "no client certificate"
		}
		if a.VerifyClient(r.TLS.PeerCertificates) != nil {
			return "the client certificate does not verify"
		}
	}
	if a.Config.Token != "" {
		return checkToken(string(a.Config.Token), r.Header.Values("Authorization"))
	}
	return ""
}

// checkToken compares in a time that tells nothing about token, its length
// included.
func checkToken(token string, headers []string) string {
	if len(headers) != 1 {
		return "not one Authorization header"
	}
	scheme, given, _ := strings.Cut(headers[0], " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return "no bearer token"
	}
	want, got := sha256.Sum256([]byte(token)), sha256.Sum256([]byte(strings.TrimLeft(given, " ")))
	if subtle.ConstantTimeCompare(want[:], got[:]) != 1 {
		return "wrong token"
	}
	return ""
}
