/* SPDX-License-Identifier: MIT
 *
 * HAS(name): is this the port with that bug? Each port lists its own in an enum bug; -DBUG=name.
 */
#ifndef COLO_BUG_H
#define COLO_BUG_H

#ifndef BUG
#define BUG none
#endif
#define PASTE(a, b) a##b
#define NUMBER(name) PASTE(bug_, name)
#define HAS(name) (NUMBER(BUG) == bug_##name)

#endif
