package pluginhost

import (
	"crypto/tls"
	"encoding/pem"

	"github.com/rivergate/rivergate/sdk/wire"
)

// transport is the choice of RIVERGATE_PLUGIN_MTLS for one start.
type transport struct {
	tls      bool // start the plugin with certificates
	plainTCP bool // the operator allows TCP without them
}

// longestNoCertificate is how long go-plugin lets the place of the certificate in the handshake line be before it takes it
// for one; without a TLS configuration of the host it would then end the process.
const longestNoCertificate = 50

// clientTLS is the host's side of mutual TLS with one process, and the variable that tells the process of it; both are nil
// without TLS. go-plugin puts the certificate that the plugin answers with into the configuration, as the only one that is
// trusted. See wire.Certificate for why this is not AutoMTLS.
func (t transport) clientTLS() (config *tls.Config, env []string, err error) {
	if !t.tls {
		return nil, nil, nil
	}
	certificate, err := wire.Certificate()
	if err != nil {
		return nil, nil, err
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Certificate[0]})
	return &tls.Config{
		Certificates: []tls.Certificate{certificate},
		ServerName:   "localhost",
		MinVersion:   tls.VersionTLS12, // a plugin may be in any language
	}, []string{wire.EnvClientCert + "=" + string(text)}, nil
}
