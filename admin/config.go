package admin

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/hotsvc/svc/configsrc"
)

// minToken is the shortest token that is taken, in bytes. 16 random bytes are
// out of reach of guessing at the pace that the guard allows.
const minToken = 16

// Config is the section "admin" of the configuration: the operator's listeners
// on TCP, beside the unix socket, which is always there.
type Config struct {
	// Listen are the addresses to serve on, host:port. The host may be empty
	// (all addresses), an IP address or a name; port 0 is any free port. None
	// is the default: the unix socket alone.
	Listen []string `config:"listen"`
	// Hosts are the names by which requests may call this service, beside IP
	// addresses, localhost, the names in Listen and those in the certificate.
	// A request with another Host is refused, so that a page whose name was
	// made to point here (DNS rebinding) reaches nothing.
	Hosts []string `config:"hosts" reload:"live"`
	// Token, of 16 bytes at least, is what a request must carry as
	// "Authorization: Bearer TOKEN" (RFC 6750). Empty: none is asked for.
	Token configsrc.Secret `config:"token" reload:"live"`
	TLS   TLS              `config:"tls" reload:"live"`
}

// TLS is the section "admin.tls". Each value is PEM, or file:PATH. Whether it
// can be parsed is not checked here.
type TLS struct {
	// Cert is the certificate chain, leaf first; empty: plaintext.
	Cert string           `config:"cert"`
	Key  configsrc.Secret `config:"key"`
	// ClientCA are the CAs, one of which must have signed the certificate of a
	// client. Empty: clients need none.
	ClientCA string `config:"client_ca"`
}

// Default returns the settings of a service that listens on no TCP address.
func Default() Config { return Config{} }

// Validate checks what struct tags cannot. Its error is a
// [*configsrc.InvalidError] with keys relative to the section ("listen[0]").
// It resolves no name, reads no file and parses no certificate, and its
// messages hold no value.
func (c *Config) Validate() error {
	var problems []configsrc.Problem
	add := func(key, reason string) {
		problems = append(problems, configsrc.Problem{Key: key, Reason: reason})
	}
	seen := map[string]int{}
	for i, address := range c.Listen {
		key := fmt.Sprintf("listen[%d]", i)
		canonical, port, err := canonicalAddress(address)
		first, again := seen[canonical]
		switch {
		case err != nil:
			add(key, err.Error())
		case again:
			add(key, fmt.Sprintf("is the same address as listen[%d]: remove one", first))
		case port != 0: // each port 0 is another port
			seen[canonical] = i
		}
	}
	for i, name := range c.Hosts {
		if !isHostName(name) {
			add(fmt.Sprintf("hosts[%d]", i), "must be a host name without a port, for example svc.example.com")
		}
	}
	if len(c.Listen) > 0 && c.Token == "" && c.TLS.ClientCA == "" {
		add("listen", "needs token or tls.client_ca: without either anybody who reaches the address could change the service")
	}
	switch {
	case c.Token == "":
	case len(c.Token) < minToken:
		add("token", fmt.Sprintf("must have at least %d bytes", minToken))
	case !isToken(string(c.Token)):
		add("token", "must be printable ASCII without spaces: an HTTP header carries nothing else")
	}
	switch {
	case c.TLS.Cert != "" && c.TLS.Key == "":
		add("tls.cert", "needs tls.key beside it")
	case c.TLS.Cert == "" && c.TLS.Key != "":
		add("tls.key", "needs tls.cert beside it")
	}
	if c.TLS.ClientCA != "" && (c.TLS.Cert == "" || c.TLS.Key == "") {
		add("tls.client_ca", "needs tls.cert and tls.key: client certificates are a part of TLS")
	}
	if problems != nil {
		return &configsrc.InvalidError{Problems: problems}
	}
	return nil
}

// canonicalAddress returns address in the one form that equal addresses share,
// and its port. The error does not hold the address.
func canonicalAddress(address string) (string, uint16, error) {
	if strings.HasPrefix(address, "unix:") {
		return "", 0, errors.New("must be host:port: the unix socket in the state folder is there without it")
	}
	host, portText, err := net.SplitHostPort(address)
	if err != nil {
		return "", 0, errors.New("must be host:port, for example 127.0.0.1:9090, [::1]:9090 or :9090")
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil {
		return "", 0, errors.New("the port must be a number from 0 to 65535")
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		host = ip.String()
	} else if host != "" && !isHostName(host) {
		return "", 0, errors.New("the host must be an IP address, a host name, or empty for all addresses")
	}
	return net.JoinHostPort(strings.ToLower(host), strconv.FormatUint(port, 10)), uint16(port), nil
}

// isHostName tells whether a Host header may hold the name. A final dot is left
// out: it names the same host another way.
func isHostName(name string) bool {
	for _, r := range name {
		switch {
		case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9':
		case r == '-', r == '.', r == '_':
		default:
			return false
		}
	}
	return len(name) <= 253 && !slices.Contains(strings.Split(name, "."), "")
}

func isToken(token string) bool {
	for i := range len(token) {
		if token[i] <= ' ' || token[i] > '~' {
			return false
		}
	}
	return true
}
