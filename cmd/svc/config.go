package main

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/hotsvc/svc/admin"
	"github.com/hotsvc/svc/configsrc"
	"github.com/hotsvc/svc/server"
	"github.com/hotsvc/svc/server/certs"
)

// Config is every setting of the service.
type Config struct {
	Server server.Config `config:"server"`
	Admin  admin.Config  `config:"admin"`
	Log    Log           `config:"log"`
	// Public is handed out to anybody, by /v1/config.
	Public map[string]any `config:"public" reload:"live"`
}

// Log says what is logged.
type Log struct {
	Level string `config:"level" reload:"live" validate:"oneof=debug info warn error"`
	// Access asks for a line for each request, whatever the level.
	Access bool `config:"access" reload:"live"`
}

func defaultConfig() Config {
	return Config{
		Server: server.Default(),
		Admin:  admin.Default(),
		Log:    Log{Level: "info", Access: true},
		Public: map[string]any{},
	}
}

// Validate checks what the sections cannot see by themselves. Its error is a
// *configsrc.InvalidError.
func (c *Config) Validate() error {
	var problems []configsrc.Problem
	for i, operator := range c.Admin.Listen {
		for j, service := range c.Server.Listen {
			if overlap(operator, service) {
				problems = append(problems, configsrc.Problem{
					Key:    fmt.Sprintf("admin.listen[%d]", i),
					Reason: fmt.Sprintf("server.listen[%d] takes this address already: choose another port", j),
				})
			}
		}
	}
	if t := c.Admin.TLS; t.Cert != "" && t.Key != "" { // admin says what is missing
		material, o := adminMaterial(t)
		problems = append(problems, withSection(adminTLS, material.Problems(o))...)
	}
	if problems != nil {
		return &configsrc.InvalidError{Problems: problems}
	}
	return nil
}

// withSection puts a section's key before those of its problems.
func withSection(key string, problems []configsrc.Problem) []configsrc.Problem {
	out := make([]configsrc.Problem, len(problems))
	for i, p := range problems {
		out[i] = p
		out[i].Key = key + "." + p.Key
	}
	return out
}

// adminMaterial is what is to be opened for admin.tls, and how.
func adminMaterial(t admin.TLS) (certs.Config, certs.Options) {
	return certs.Config(t), certs.Options{Mutual: t.ClientCA != ""}
}

// overlap reports whether two listen addresses, of which nothing more is known
// than what is written, cannot both be listened on. What is no host:port
// overlaps nothing.
func overlap(a, b string) bool {
	hostA, portA, okA := splitAddress(a)
	hostB, portB, okB := splitAddress(b)
	if !okA || !okB || portA != portB || portA == 0 { // each port 0 is another port
		return false
	}
	return covers(hostA, hostB) || covers(hostB, hostA)
}

func splitAddress(address string) (host string, port uint64, ok bool) {
	host, text, err := net.SplitHostPort(address)
	if err == nil {
		port, err = strconv.ParseUint(text, 10, 16)
	}
	return host, port, err == nil
}

// covers reports whether listening on host a takes the addresses of b: the same
// host, or all addresses of the family. [::] is those of IPv4 too.
func covers(a, b string) bool {
	ipA, errA := netip.ParseAddr(a)
	ipB, errB := netip.ParseAddr(b)
	switch {
	case a == "", errA == nil && ipA == netip.IPv6Unspecified():
		return true
	case errA == nil && errB == nil:
		return ipA == ipB || ipA == netip.IPv4Unspecified() && ipB.Is4()
	}
	return strings.EqualFold(a, b)
}
