/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/* Priority fields: the input is the value of one. It is read a second time,
 * by regular expressions made from the grammar of RFC 8941. */

#include "fuzz.h"

#include <regex.h>
#include <stdlib.h>
#include <string.h>

#include "h2x_priority.h"

#define KEY "[a-z*][a-z0-9_.*-]*"
#define INTEGER "-?[0-9]{1,15}"
#define DECIMAL "-?[0-9]{1,12}[.][0-9]{1,3}"
#define STRING "\"([] !#-[^-~]|[\\]\"|[\\][\\])*\""
#define TOKEN "[A-Za-z*][A-Za-z0-9!#$%&'*+.^_`|~:/-]*"
#define BYTES ":[A-Za-z0-9+/=]*:"
#define BOOLEAN "[?][01]"
#define BARE \
    "(" INTEGER "|" DECIMAL "|" STRING "|" TOKEN "|" BYTES "|" BOOLEAN ")"
#define PARAMS "(; *" KEY "(=" BARE ")?)*"
#define ITEM BARE PARAMS
#define INNER "[(] *(" ITEM "( +" ITEM ")*)? *[)]" PARAMS
#define MEMBER "(" KEY ")((=(" INNER "|" ITEM "))|" PARAMS ")"
#define OWS "[ \t]*"

static regex_t member, urgency, incremental;

static void compile(regex_t *expression, const char *text)
{
    if (regcomp(expression, text, REG_EXTENDED)) {
        fuzz_fail(__FILE__, __LINE__, text);
    }
}

/* These stay. */
static void compile_all(void)
{
    compile(&member, "^" MEMBER OWS "(," OWS "|$)");
    compile(&urgency, "^=-?(0*[0-7])(;.*)?$");
    compile(&incremental, "^(=[?]1|=[?]0)?(;.*)?$");
}

/* What a member means, whose key may be any. */
static void apply(h2x_priority *priority, const h2x_priority *from,
                  const char *key, const char *value)
{
    regmatch_t part[3];

    if (!strcmp(key, "u")) {
        priority->urgency = from->urgency;
        if (!regexec(&urgency, value, 3, part, 0)
            && (value[1] != '-' || atoi(value + 1) == 0)) {
            priority->urgency = abs(atoi(value + 1));
        }
    }
    if (!strcmp(key, "i")) {
        priority->is_incremental = from->is_incremental;
        if (!regexec(&incremental, value, 3, part, 0)) {
            priority->is_incremental = (value[0] != '=' || value[2] == '1');
        }
    }
}

/* Reads it the other way. */
static int read_again(h2x_priority *priority, const char *value)
{
    h2x_priority found = *priority;
    regmatch_t part[4];
    int comma = 0;

    value += strspn(value, " ");
    while (*value || comma) {
        if (regexec(&member, value, 4, part, 0)) {
            return 0;
        }
        apply(&found, priority,
              fuzz_text(value, (size_t)part[1].rm_eo),
              fuzz_text(value + part[2].rm_so,
                        (size_t)(part[2].rm_eo - part[2].rm_so)));
        comma = memchr(value + part[2].rm_eo, ',',
                       (size_t)(part[0].rm_eo - part[2].rm_eo)) != NULL;
        value += part[0].rm_eo;
    }
    *priority = found;
    return 1;
}

static int is_same(const h2x_priority *one, const h2x_priority *other)
{
    return one->urgency == other->urgency
           && one->is_incremental == other->is_incremental;
}

static int check(const uint8_t *data, size_t size, int from_urgency,
                 int from_incremental)
{
    h2x_priority from = { from_urgency, from_incremental };
    h2x_priority priority = from, again = from;
    int rv = h2x_priority_parse(&priority, fuzz_copy(data, size), size);

    FUZZ_CHECK(rv || is_same(&priority, &from));
    FUZZ_CHECK(priority.urgency >= 0 && priority.urgency <= 7);
    FUZZ_CHECK(priority.is_incremental == !!priority.is_incremental);
    if (size && memchr(data, 0, size)) {
        FUZZ_CHECK(!rv);
        return rv;
    }
    FUZZ_CHECK(read_again(&again, fuzz_text(data, size)) == rv);
    FUZZ_CHECK(is_same(&priority, &again));
    return rv;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static int is_compiled;

    if (!is_compiled) {
        compile_all();
        is_compiled = 1;
    }
    fuzz_begin(data, size);
    FUZZ_CHECK(check(data, size, 3, 0) == check(data, size, 6, 1));
    fuzz_end();
    return 0;
}
