<?php
/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/* A page of 5 KB. */

$path = $_SERVER['SCRIPT_NAME'];
?>
<!doctype html><html><title><?= $path ?></title><ul>
<?php for ($i = 0; $i < 100; $i++): ?>
<li><a href="<?= $path, '/', $i ?>">article <?= $i ?> of today</a></li>
<?php endfor ?>
</ul></html>
