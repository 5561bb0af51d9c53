/* SPDX-License-Identifier: MIT */
#include "net/tls.h"

#include "base/util.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509_vfy.h>
#include <string.h>

struct davit_tls {
	SSL *ssl;
	BIO *in, *out; /* the ssl's */
	bool insecure;
	struct davit_buf waiting; /* to be said behind the handshake */
};

/* What OpenSSL says of the last failure, in words. */
static const char *reason(void)
{
	const char *text = ERR_reason_error_string(ERR_peek_last_error());

	return text ? text : "TLS failed";
}

static void tls_close(struct davit_tls *t)
{
	if (!t)
		return;
	SSL_free(t->ssl);
	davit_buf_fini(&t->waiting);
	free(t);
}

static bool is_address(const char *name)
{
	struct in6_addr a;

	return inet_pton(AF_INET, name, &a) == 1 || inet_pton(AF_INET6, name, &a) == 1;
}

static bool expect(SSL *ssl, const char *name)
{
	bool address = is_address(name);

	if (!address && SSL_set_tlsext_host_name(ssl, name) != 1)
		return false;
	return address ? X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), name) == 1
		       : SSL_set1_host(ssl, name) == 1;
}

/* Takes ctx. */
static int begin(struct davit_tls *t, SSL_CTX *ctx, const struct davit_tls_config *config)
{
	t->ssl = SSL_new(ctx);
	SSL_CTX_free(ctx); /* the ssl holds it */
	t->in = BIO_new(BIO_s_mem());
	t->out = BIO_new(BIO_s_mem());
	if (!t->ssl || !t->in || !t->out || !expect(t->ssl, config->name)) {
		BIO_free(t->in);
		BIO_free(t->out);
		return DAVIT_ENOMEM;
	}
	SSL_set_bio(t->ssl, t->in, t->out);
	SSL_set_connect_state(t->ssl);
	return 0;
}

static int tls_open(const struct davit_tls_config *config, struct davit_tls **ret, struct davit_error *err)
{
	struct davit_tls *t = calloc(1, sizeof *t);
	SSL_CTX *ctx = t ? SSL_CTX_new(TLS_client_method()) : NULL;

	ERR_clear_error();
	if (!ctx) {
		free(t);
		return davit_error_set(err, DAVIT_ENOMEM, "health", "out of memory");
	}
	t->insecure = config->insecure;
	SSL_CTX_set_verify(ctx, config->insecure ? SSL_VERIFY_NONE : SSL_VERIFY_PEER, NULL);
	if (!config->insecure && (config->ca ? SSL_CTX_load_verify_file(ctx, config->ca)
					     : SSL_CTX_set_default_verify_paths(ctx)) != 1) {
		davit_error_set(err, DAVIT_EIO, "health", "%s cannot be used as authorities: %s",
				config->ca ? config->ca : "the system's certificates", reason());
		SSL_CTX_free(ctx);
		free(t);
		return DAVIT_EIO;
	}
	if (begin(t, ctx, config) < 0) {
		tls_close(t);
		return davit_error_set(err, DAVIT_ENOMEM, "health", "out of memory");
	}
	*ret = t;
	return 0;
}

static int tls_say(struct davit_tls *t, const void *data, size_t n, struct davit_error *err)
{
	davit_buf_add(&t->waiting, data, n);
	return t->waiting.oom ? davit_error_set(err, DAVIT_ENOMEM, "health", "out of memory") : 0;
}

static int failed(const struct davit_tls *t, struct davit_error *err)
{
	long bad = SSL_get_verify_result(t->ssl);

	if (!t->insecure && bad != X509_V_OK)
		return davit_error_set(err, DAVIT_EPROTO, "health", "the certificate is not valid: %s",
				       X509_verify_cert_error_string(bad));
	return davit_error_set(err, DAVIT_EPROTO, "health", "TLS failed: %s", reason());
}

/* The handshake, then what waits, then what the peer says: 0 to go on, 1 at its end. */
static int advance(struct davit_tls *t, struct davit_buf *plain, struct davit_error *err)
{
	char data[4096];
	int r = SSL_do_handshake(t->ssl), why;

	if (r == 1 && t->waiting.len) {
		r = SSL_write(t->ssl, t->waiting.data, (int)t->waiting.len); /* into memory: whole */
		davit_buf_reset(&t->waiting);
	}
	while (r > 0) {
		r = SSL_read(t->ssl, data, sizeof data);
		if (r > 0)
			davit_buf_add(plain, data, (size_t)r);
	}
	why = SSL_get_error(t->ssl, r);
	if (why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE)
		return 0;
	return why == SSL_ERROR_ZERO_RETURN ? 1 : failed(t, err);
}

static int tls_turn(struct davit_tls *t, const void *data, size_t n, struct davit_buf *plain,
		    struct davit_buf *cipher, struct davit_error *err)
{
	char *sent;
	long len;
	int r;

	ERR_clear_error(); /* of whoever used this thread before */
	if (n && BIO_write(t->in, data, (int)n) != (int)n)
		return davit_error_set(err, DAVIT_ENOMEM, "health", "out of memory");
	r = advance(t, plain, err);
	len = BIO_get_mem_data(t->out, &sent);
	if (len > 0)
		davit_buf_add(cipher, sent, (size_t)len);
	(void)BIO_reset(t->out);
	return plain->oom || cipher->oom ? davit_error_set(err, DAVIT_ENOMEM, "health", "out of memory") : r;
}

extern const struct davit_tls_functions davit_tls;
__attribute__((visibility("default"))) const struct davit_tls_functions davit_tls = {
	.open = tls_open,
	.close = tls_close,
	.say = tls_say,
	.turn = tls_turn,
};
