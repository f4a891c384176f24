package main

import (
	"crypto/tls"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"

	"github.com/hotsvc/svc/admin"
	"github.com/hotsvc/svc/reload"
	"github.com/hotsvc/svc/server/certs"
)

// adminAccess is what the operator's listeners on TCP ask for, by the revision
// and the certificate in force.
type adminAccess struct {
	certificates
	tls     *tls.Config // one for the process, as it holds the keys of session tickets
	current atomic.Pointer[access]
}

// access is what a revision and a material of it make.
type access struct {
	admin.Access
	revision *reload.Revision[Config]
	material *certs.Material
}

func newAdminAccess(c certificates) *adminAccess {
	return &adminAccess{certificates: c, tls: certs.TLS(c.adminMaterial, certs.TLSOptions{NextProtos: []string{"http/1.1"}})}
}

// load makes it once for each revision and material: it is asked for each
// request.
func (a *adminAccess) load() *admin.Access {
	revision := a.manager.Load()
	material := a.admin.Get(revision).load()
	if now := a.current.Load(); now != nil && now.revision == revision && now.material == material {
		return &now.Access
	}
	next := &access{revision: revision, material: material, Access: admin.Access{Config: &revision.Config.Admin}}
	if material != nil {
		next.TLS, next.Names = a.tls, material.DNSNames()
		if roots := material.ClientCAs(); roots != nil {
			next.VerifyClient = admin.VerifyClientBy(roots)
		}
	}
	a.current.Store(next)
	return &next.Access
}

// readable are the addresses of the operator's listeners at which the token
// crosses a network in clear text.
func readable(c admin.Config) []string {
	if c.Token == "" || c.TLS.Cert != "" {
		return nil
	}
	var addresses []string
	for _, address := range c.Listen {
		host, _, _ := net.SplitHostPort(address) // validated
		ip, err := netip.ParseAddr(host)
		if loopback := err == nil && ip.Unmap().IsLoopback() || strings.EqualFold(host, "localhost"); !loopback {
			addresses = append(addresses, address)
		}
	}
	return addresses
}

// warnReadable is told of every change of the section.
func (s *service) warnReadable(c admin.Config) {
	if addresses := readable(c); addresses != nil {
		s.log.Warn("admin.token can be read on its way to these addresses: set admin.tls.cert and admin.tls.key, or listen on a loopback address",
			"addresses", addresses)
	}
}
